"""What a withdrawal is refused for over REST, and that a refusal changes nothing."""

from typing import Any

import pytest

from apps.accounts.services import user_freeze
from apps.chain.models import SignerRule, Wallet
from apps.core.ids import uuid7
from apps.core.models import Asset
from apps.deposits.models import DepositAddress
from apps.treasury.models import Activity
from apps.treasury.pauses import pause_set
from apps.withdrawals.models import WithdrawalRule
from tests.core.api.support import problem, user_with_key
from tests.withdrawals.api.conftest import DEPOSIT, OURS, OUTSIDE, ROUTER, TOKEN, Office, everything

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/v1/withdrawals"


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("asset missing", {"asset": ...}, "/asset", "required"),
    ("asset null", {"asset": None}, "/asset", "null"),
    ("asset unknown", {"asset": "SHIB"}, "/asset", "unknown_asset"),
    ("asset a list", {"asset": ["USDC"]}, "/asset", "unknown_asset"),
    ("asset long", {"asset": "U" * 25}, "/asset", "unknown_asset"),
    ("asset lower case", {"asset": "usdc"}, "/asset", "unknown_asset"),
    ("asset with a null", {"asset": "US\x00DC"}, "/asset", "invalid_character"),
    ("amount missing", {"amount": ...}, "/amount", "required"),
    ("amount null", {"amount": None}, "/amount", "null"),
    ("amount a number", {"amount": 100}, "/amount", "not_a_string"),
    ("amount a float", {"amount": 1.5}, "/amount", "not_a_string"),
    ("amount zero", {"amount": "0"}, "/amount", "zero"),
    ("amount negative", {"amount": "-1"}, "/amount", "negative"),
    ("amount a list", {"amount": ["100"]}, "/amount", "not_a_string"),
    ("amount empty", {"amount": ""}, "/amount", "invalid_amount"),
    ("amount without end", {"amount": "Infinity"}, "/amount", "invalid_amount"),
    ("amount with a comma", {"amount": "1,5"}, "/amount", "invalid_amount"),
    ("amount with a line", {"amount": "1\n"}, "/amount", "invalid_amount"),
    ("amount exponent", {"amount": "1e3"}, "/amount", "invalid_amount"),
    ("amount not ASCII", {"amount": "１"}, "/amount", "invalid_amount"),
    ("amount with too many decimals", {"amount": "1.0000001"}, "/amount", "too_many_decimals"),
    ("amount beyond 2^256", {"amount": "9" * 78}, "/amount", "too_large"),
    ("max fee a number", {"max_fee": 1}, "/max_fee", "not_a_string"),
    ("max fee null", {"max_fee": None}, "/max_fee", "null"),
    ("max fee with too many decimals", {"max_fee": "0.0000001"}, "/max_fee", "too_many_decimals"),
    ("max fee negative", {"max_fee": "-1"}, "/max_fee", "negative"),
    ("unknown field", {"memo": "x"}, "/memo", "unknown_field"),
    ("another's account", {"user_id": str(uuid7())}, "/user_id", "unknown_field"),
]
BAD_DESTINATION: list[tuple[str, dict[str, Any], str, str]] = [
    ("destination missing", {"destination": ...}, "/destination", "required"),
    ("destination null", {"destination": None}, "/destination", "null"),
    ("destination a number", {"destination": 5}, "/destination", "invalid"),
    ("destination a list", {"destination": [OUTSIDE]}, "/destination", "invalid"),
    ("destination empty", {"destination": ""}, "/destination", "invalid_address"),
    ("destination short", {"destination": OUTSIDE[:-1]}, "/destination", "invalid_address"),
    ("destination long", {"destination": OUTSIDE + "0"}, "/destination", "invalid_address"),
    ("destination without 0x", {"destination": OUTSIDE[2:]}, "/destination", "invalid_address"),
    ("destination with 0X", {"destination": "0X" + OUTSIDE[2:]}, "/destination", "invalid_address"),
    ("destination with a line", {"destination": OUTSIDE + "\n"}, "/destination", "invalid_address"),
    ("destination with a null", {"destination": OUTSIDE + "\x00"}, "/destination", "invalid_character"),
    ("destination a name", {"destination": "vitalik.eth"}, "/destination", "invalid_address"),
    ("destination not hex", {"destination": "0x" + "g" * 40}, "/destination", "invalid_address"),
    ("destination wide digits", {"destination": "0x" + "１" * 40}, "/destination", "invalid_address"),
    ("one letter's case wrong", {"destination": OUTSIDE.replace("aA", "AA")}, "/destination", "bad_checksum"),
    ("all upper case", {"destination": "0x" + OUTSIDE[2:].upper()}, "/destination", "bad_checksum"),
]


@pytest.mark.parametrize(
    ("name", "changes", "pointer", "code"),
    [pytest.param(*row, id=row[0]) for row in BAD + BAD_DESTINATION],
)
def test_malformed_input_is_pointed_at_and_changes_nothing(
    office: Office, name: str, changes: dict[str, Any], pointer: str, code: str
) -> None:
    before = everything()
    problem(office.post(**changes), 400, "validation_failed", errors=[(pointer, code)])
    assert everything() == before


@pytest.mark.parametrize(
    ("name", "changes", "pointer", "code"),
    [pytest.param(*row, id=row[0]) for row in BAD if "max fee" not in row[0]],
)
def test_a_quote_refuses_the_same(
    office: Office, name: str, changes: dict[str, Any], pointer: str, code: str
) -> None:
    before = everything()
    body = office.body(destination=..., **changes)
    problem(office.client.post(f"{URL}/quote", body), 400, "validation_failed", errors=[(pointer, code)])
    assert everything() == before


def _refuse_zero(office: Office) -> None:
    office.destination(office.user, "0x" + "0" * 40)


def _refuse_ours(office: Office) -> None:
    Wallet.objects.create(address=OURS, role="gas", key_ciphertext=b"none")
    office.destination(office.user, OURS)


def _refuse_deposit(office: Office) -> None:
    """Another person's deposit address, of which chain has no row."""
    other, _ = user_with_key("other@example.org")
    DepositAddress.objects.create(user=other, index=1, address=DEPOSIT)
    office.destination(office.user, DEPOSIT)


def _refuse_token(office: Office) -> None:
    office.destination(office.user, TOKEN)


def _refuse_router(office: Office) -> None:
    SignerRule.objects.create(network=office.network, to=ROUTER, selector="0x12345678")
    office.destination(office.user, ROUTER)


def _waiting(office: Office) -> None:
    office.client.post("/api/v1/withdrawal-destinations", {"address": "0x" + "e" * 40, "label": "new"})


def _removed(office: Office) -> None:
    row = office.destination(office.user, "0x" + "e" * 40)
    assert office.client.delete(f"/api/v1/withdrawal-destinations/{row.pk}").status_code == 204


def _anothers(office: Office) -> None:
    other, _ = user_with_key("other@example.org")
    office.destination(other, "0x" + "e" * 40)


def _frozen(office: Office) -> None:
    user_freeze(user_id=office.user.pk, reason="owes")


def _paused(office: Office) -> None:
    pause_set(activities=[Activity.WITHDRAWING], asset_id=office.usdc.pk, reason="secret reason", actor="op")


def _paused_all(office: Office) -> None:
    pause_set(activities=[Activity.WITHDRAWING], asset_id=None, reason="secret reason", actor="op")


def _switched_off(office: Office) -> None:
    WithdrawalRule.objects.update(enabled=False)


def _nothing(office: Office) -> None:
    del office


RULES: list[tuple[str, Any, dict[str, Any], int, str, str]] = [
    ("the zero address", _refuse_zero, {"destination": "0x" + "0" * 40}, 400, "burn_address", "/destination"),
    ("a wallet of ours", _refuse_ours, {"destination": OURS}, 400, "own_address", "/destination"),
    ("a deposit address", _refuse_deposit, {"destination": DEPOSIT}, 400, "own_address", "/destination"),
    ("a token", _refuse_token, {"destination": TOKEN}, 400, "contract_address", "/destination"),
    ("a router", _refuse_router, {"destination": ROUTER}, 400, "contract_address", "/destination"),
    (
        "not on the list",
        _nothing,
        {"destination": "0x" + "e" * 40},
        400,
        "unknown_destination",
        "/destination",
    ),
    ("another's", _anothers, {"destination": "0x" + "e" * 40}, 400, "unknown_destination", "/destination"),
    ("removed", _removed, {"destination": "0x" + "e" * 40}, 400, "unknown_destination", "/destination"),
    ("not rested", _waiting, {"destination": "0x" + "e" * 40}, 400, "destination_waiting", "/destination"),
    ("below the minimum", _nothing, {"amount": "3.499999"}, 400, "below_minimum", "/amount"),
    ("dearer than agreed", _nothing, {"max_fee": "2.499999"}, 409, "fee_above_max", "/max_fee"),
    ("more than the day's", _nothing, {"amount": "500.000001"}, 409, "daily_limit", "/amount"),
    ("frozen", _frozen, {}, 409, "account_frozen", ""),
    ("the asset is paused", _paused, {}, 409, "withdrawals_paused", ""),
    ("everything is paused", _paused_all, {}, 409, "withdrawals_paused", ""),
    ("switched off", _switched_off, {}, 409, "withdrawals_disabled", ""),
    ("no terms", _nothing, {"asset": "WETH"}, 409, "withdrawals_disabled", ""),
]


@pytest.mark.parametrize(
    ("name", "given", "changes", "status", "code", "pointer"),
    [pytest.param(*row, id=row[0]) for row in RULES],
)
def test_a_rule_refuses_says_why_and_changes_nothing(
    office: Office, name: str, given: Any, changes: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    given(office)
    before = everything()
    errors = [(pointer, code)] if pointer else []
    document = problem(office.post(**changes), status, code, errors=errors)
    assert "secret" not in str(document)
    assert everything() == before


def test_an_asset_that_lives_on_no_network_cannot_be_withdrawn(office: Office) -> None:
    WithdrawalRule.objects.create(
        asset=Asset.objects.get(code="DOGE"), minimum_units=1, person_daily_units=1, platform_hourly_units=1
    )
    before = everything()
    problem(office.post(asset="DOGE"), 409, "withdrawals_disabled")
    assert everything() == before
