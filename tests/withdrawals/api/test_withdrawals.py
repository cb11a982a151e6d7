"""Withdrawals over REST: what is promised, what is refused, and that a refusal changes nothing."""

import threading
from typing import Any

import pytest
from django.db import connection

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.accounts.services import user_freeze
from apps.chain.models import SignerRule, Wallet
from apps.core import clock
from apps.core.ids import uuid7
from apps.core.models import Asset
from apps.deposits.models import DepositAddress
from apps.events.models import Event
from apps.ledger.domain import AccountKind
from apps.providers.models import PriceSnapshot
from apps.treasury.models import Activity
from apps.treasury.pauses import pause_set
from apps.withdrawals.domain import WithdrawalState
from apps.withdrawals.models import Withdrawal, WithdrawalRule
from apps.withdrawals.moves import withdrawals_move
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.withdrawals.api.conftest import DEPOSIT, OURS, OUTSIDE, ROUTER, TOKEN, USDC, Office, everything

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/v1/withdrawals"


def test_a_withdrawal_is_taken_down_and_its_whole_amount_held(office: Office) -> None:
    answer = office.post()

    assert answer.status_code == 201, answer.content
    row = Withdrawal.objects.get()
    document = answer.json()
    assert answer["Location"] == f"{URL}/{row.pk}"
    assert document == {
        "id": str(row.pk),
        "asset": "USDC",
        "network": "mainnet",
        "destination": OUTSIDE,
        "state": "requested",
        "reason": "",
        "detail": "",
        "wait_reason": "",
        "amount": "100",
        "amount_units": "100000000",
        # 0.5, and 50,000 units of gas at twice 10 gwei and 2,000 USDC an ether: 2.
        "fee": "2.5",
        "fee_units": "2500000",
        "fee_charged": None,
        "fee_charged_units": None,
        "sent": "97.5",
        "sent_units": "97500000",
        "transaction": None,
        "created_at": document["created_at"],
        "closed_at": None,
    }
    assert office.client.get(answer["Location"]).json() == document
    assert (office.balance(), office.balance(AccountKind.HELD)) == (900 * USDC, 100 * USDC)
    event = Event.objects.get()
    assert (event.topic, event.subject_id, event.object_id) == (
        "withdrawal.requested",
        office.user.pk,
        row.pk,
    )


def test_the_same_key_again_withdraws_once_and_another_body_is_refused(office: Office) -> None:
    first = office.client.post(URL, office.body(), idempotency_key="one")
    again = office.client.post(URL, office.body(), idempotency_key="one")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert Withdrawal.objects.count() == 1
    problem(
        office.client.post(URL, office.body(amount="5"), idempotency_key="one"), 422, "idempotency_key_reused"
    )
    problem(office.client.post(URL, office.body()), 400, "idempotency_key_required")
    assert office.balance(AccountKind.HELD) == 100 * USDC


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("asset missing", {"asset": ...}, "/asset", "required"),
    ("asset null", {"asset": None}, "/asset", "null"),
    ("asset unknown", {"asset": "SHIB"}, "/asset", "unknown_asset"),
    ("asset a list", {"asset": ["USDC"]}, "/asset", "unknown_asset"),
    ("asset long", {"asset": "U" * 25}, "/asset", "unknown_asset"),
    ("amount missing", {"amount": ...}, "/amount", "required"),
    ("amount null", {"amount": None}, "/amount", "null"),
    ("amount a number", {"amount": 100}, "/amount", "not_a_string"),
    ("amount a float", {"amount": 1.5}, "/amount", "not_a_string"),
    ("amount zero", {"amount": "0"}, "/amount", "zero"),
    ("amount negative", {"amount": "-1"}, "/amount", "negative"),
    ("amount exponent", {"amount": "1e3"}, "/amount", "invalid_amount"),
    ("amount not ASCII", {"amount": "１"}, "/amount", "invalid_amount"),
    ("amount with too many decimals", {"amount": "1.0000001"}, "/amount", "too_many_decimals"),
    ("amount beyond 2^256", {"amount": "9" * 78}, "/amount", "too_large"),
    ("max fee a number", {"max_fee": 1}, "/max_fee", "not_a_string"),
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


def test_more_than_is_there_is_refused_and_nothing_held(office: Office) -> None:
    office.rule.person_daily_units = office.rule.platform_hourly_units = 10_000 * USDC
    office.rule.save()
    before = everything()[:5]
    document = problem(
        office.post(amount="1000.000001"),
        409,
        "insufficient_funds",
        errors=[("/amount", "insufficient_funds")],
    )
    assert document["detail"] == "1000 USDC are available."
    assert everything()[:5] == before
    assert (office.balance(), office.balance(AccountKind.HELD)) == (1_000 * USDC, 0)


def test_without_a_recent_price_of_gas_nothing_is_quoted(office: Office) -> None:
    office.travel(seconds=601)
    before = everything()
    problem(office.post(), 503, "unavailable", retryable=True)
    problem(
        office.client.post(f"{URL}/quote", office.body(destination=...)), 503, "unavailable", retryable=True
    )
    assert everything() == before
    PriceSnapshot.objects.update(refreshed_at=clock.now())
    assert office.post().status_code == 201


def test_a_quote_says_the_fee_and_why_before(office: Office) -> None:
    answer = office.client.post(f"{URL}/quote", {"asset": "USDC", "amount": "300"}).json()

    why = answer.pop("why")
    assert answer == {
        "asset": "USDC",
        "amount": "300",
        "amount_units": "300000000",
        "fee": "2.5",
        "fee_units": "2500000",
        "fee_flat": "0.5",
        "fee_gas": "2",
        "sent": "297.5",
        "sent_units": "297500000",
        "needs_approval": True,
        "remaining_today": "500",
    }
    assert [one["code"] for one in why] == ["inside", "flat", "gas", "approval"]
    assert why[0]["text"] == "The fee is inside the amount: 297.5 USDC arrive."
    over = office.client.post(f"{URL}/quote", {"asset": "USDC", "amount": "901"}).json()
    assert [one["code"] for one in over["why"]][-2:] == ["daily_limit", "hourly_limit"]


def test_the_days_limit_slides_and_what_came_back_does_not_count(office: Office) -> None:
    first = office.row(amount="400")
    problem(office.post(amount="100.000001"), 409, "daily_limit")
    assert office.client.post(f"{URL}/{first.pk}/cancel").status_code == 200
    office.row(amount="300")
    office.row(amount="200")
    problem(office.post(amount="4"), 409, "daily_limit")
    office.travel(seconds=23 * 3_600 + 3_599)
    PriceSnapshot.objects.update(refreshed_at=clock.now())
    problem(office.post(amount="4"), 409, "daily_limit")
    office.travel(seconds=2)
    assert office.post(amount="4").status_code == 201


def test_the_platforms_hour_counts_everybody(office: Office) -> None:
    other, client = user_with_key("bob@example.org")
    office.fund(other, office.usdc, 1_000 * USDC, "bob")
    office.destination(other)
    office.row(amount="500")
    problem(client.post(URL, office.body(amount="400.000001"), idempotency_key="bob"), 409, "platform_limit")
    assert client.post(URL, office.body(amount="400"), idempotency_key="bob").status_code == 201


def test_others_and_unknown_withdrawals_are_not_found(office: Office) -> None:
    row = office.row()
    _, stranger = user_with_key("eve@example.org")
    before = everything()
    for client, pk in ((stranger, row.pk), (office.client, uuid7())):
        problem(client.get(f"{URL}/{pk}"), 404, "not_found")
        problem(client.post(f"{URL}/{pk}/cancel"), 404, "not_found")
        problem(client.post(f"{URL}/{pk}/confirm", {"code": "1"}), 404, "not_found")
    assert stranger.get(URL).json() == {"data": [], "next_cursor": None}
    assert everything() == before


def test_the_list_pages_and_filters(office: Office) -> None:
    rows = [office.row(amount="10") for _ in range(3)]
    office.client.post(f"{URL}/{rows[1].pk}/cancel")

    page = office.client.get(URL, {"limit": 2}).json()
    assert [one["id"] for one in page["data"]] == [str(rows[2].pk), str(rows[1].pk)]
    rest = office.client.get(URL, {"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [one["id"] for one in rest["data"]] == [str(rows[0].pk)]
    found = office.client.get(URL, {"state": "cancelled", "asset": "USDC"}).json()
    assert [one["id"] for one in found["data"]] == [str(rows[1].pk)]
    for query, name, code in (
        ({"state": "gone"}, "state", "invalid_choice"),
        ({"asset": "SHIB"}, "asset", "unknown_asset"),
        ({"limit": 0}, "limit", "min_value"),
        ({"colour": "red"}, "colour", "unknown_field"),
    ):
        problem(office.client.get(URL, query), 400, "validation_failed", errors=[(name, code)])
    problem(office.client.get(URL, {"cursor": "x"}), 400, "invalid_cursor")


def test_each_route_needs_its_scope(office: Office) -> None:
    row = office.row()
    _, reader = user_with_key("r@example.org", scopes=["withdrawals:read"])
    _, writer = user_with_key("w@example.org", scopes=["withdrawals:write"])
    destinations = "/api/v1/withdrawal-destinations"
    before = everything()
    for client, method, path in (
        (reader, "POST", URL),
        (reader, "POST", f"{URL}/{row.pk}/cancel"),
        (reader, "POST", f"{URL}/{row.pk}/confirm"),
        (reader, "POST", destinations),
        (reader, "DELETE", f"{destinations}/{uuid7()}"),
        (writer, "GET", URL),
        (writer, "GET", f"{URL}/{row.pk}"),
        (writer, "POST", f"{URL}/quote"),
        (writer, "GET", destinations),
    ):
        problem(client.send(method, path, body={}), 403, "insufficient_scope")
        problem(ApiClient().send(method, path, body={}), 401, "not_authenticated")
    problem(office.client.patch(f"{URL}/{row.pk}", {}), 405, "method_not_allowed")
    assert everything() == before


def test_cancelling_gives_the_hold_back_once(office: Office) -> None:
    row = office.row()
    first = office.client.post(f"{URL}/{row.pk}/cancel")
    again = office.client.post(f"{URL}/{row.pk}/cancel", {})

    assert (first.json()["state"], first.json()["reason"]) == ("cancelled", "by_owner")
    assert again.json() == first.json()
    assert (office.balance(), office.balance(AccountKind.HELD)) == (1_000 * USDC, 0)
    assert list(Event.objects.order_by("sequence").values_list("topic", flat=True)) == [
        "withdrawal.requested",
        "withdrawal.cancelled",
    ]
    problem(
        office.client.post(f"{URL}/{row.pk}/cancel", {"why": "x"}),
        400,
        "validation_failed",
        errors=[("/why", "unknown_field")],
    )


@pytest.mark.parametrize("state", ["failed", "rejected"])
def test_what_has_ended_cannot_be_called_off(office: Office, state: str) -> None:
    row = office.row()
    from django.db import transaction

    with transaction.atomic():
        if state == "failed":
            withdrawals_move([row], WithdrawalState.APPROVED)
        withdrawals_move([row], WithdrawalState(state))
    before = everything()
    problem(office.client.post(f"{URL}/{row.pk}/cancel"), 409, "not_cancellable")
    assert everything() == before


class Codes:
    """A factor of one person: each code of the list is right once."""

    def __init__(self, user: User, codes: set[str]) -> None:
        self.user, self.codes = user, codes

    def enrolled(self, *, user_ids: Any) -> set[Any]:
        return {self.user.pk} & set(user_ids)

    def verify(self, *, user_id: Any, code: str, purpose: str) -> bool:
        if user_id != self.user.pk or code not in self.codes:
            return False
        self.codes.remove(code)
        return True


@pytest.fixture
def waiting(office: Office) -> Withdrawal:
    from django.db import transaction

    second_factor.install(Codes(office.user, {"123456"}))
    row = office.row()
    with transaction.atomic():
        withdrawals_move([row], WithdrawalState.AWAITING_CONFIRMATION)
    return row


def test_the_right_code_confirms(office: Office, waiting: Withdrawal) -> None:
    answer = office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "123456"})

    assert (answer.status_code, answer.json()["state"]) == (200, "approved")
    problem(
        office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "123456"}),
        409,
        "not_awaiting_confirmation",
    )


def test_wrong_codes_are_counted_and_the_fifth_calls_it_off(office: Office, waiting: Withdrawal) -> None:
    said = [
        problem(
            office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "000000"}),
            400,
            "wrong_code",
            errors=[("/code", "wrong_code")],
        )["detail"]
        for _ in range(5)
    ]

    assert said[0] == "The code is wrong. 4 tries left."
    assert said[4] == "The code is wrong. The withdrawal was called off."
    waiting.refresh_from_db()
    assert (waiting.state, waiting.reason) == ("cancelled", "confirmation_failed")
    assert office.balance() == 1_000 * USDC
    problem(
        office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "123456"}),
        409,
        "not_awaiting_confirmation",
    )


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/code", "required"),
        ({"code": None}, "/code", "null"),
        ({"code": 123456}, "/code", "invalid"),
        ({"code": ""}, "/code", "blank"),
        ({"code": "1" * 65}, "/code", "max_length"),
        ({"code": "123456", "extra": 1}, "/extra", "unknown_field"),
    ],
)
def test_a_malformed_code_costs_no_try(
    office: Office, waiting: Withdrawal, body: dict[str, Any], pointer: str, code: str
) -> None:
    before = everything()
    problem(
        office.client.post(f"{URL}/{waiting.pk}/confirm", body),
        400,
        "validation_failed",
        errors=[(pointer, code)],
    )
    assert everything() == before


def test_many_wrong_codes_at_once_are_no_more_than_five_tries(office: Office, waiting: Withdrawal) -> None:
    answers: list[int] = []

    def guess() -> None:
        try:
            answers.append(office.client.post(f"{URL}/{waiting.pk}/confirm", {"code": "999999"}).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=guess) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [400] * 5 + [409] * 4
    waiting.refresh_from_db()
    assert waiting.state == "cancelled"
