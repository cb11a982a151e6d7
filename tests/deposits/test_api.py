"""Where to pay, what arrived, and everything that is refused, with nothing changed."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from apps.chain.abi import checksum
from apps.chain.models import Network, Token
from apps.core import clock
from apps.core.ids import uuid7
from apps.deposits.domain import DepositKind
from apps.deposits.models import Deposit, DepositAddress, DepositRule
from apps.deposits.services import deposit_address_open
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.deposits.support import CONTRACT, STRANGER, USDC, Bank, hash_of

ADDRESSES, DEPOSITS = "/api/v1/deposit-addresses", "/api/v1/deposits"
ETHER = 10**18


# The same in every process that collects the tests.
NOBODY = "018f0000-0000-7000-8000-000000000001"


@pytest.fixture
def ann(bank: Bank) -> tuple[Any, ApiClient]:
    return user_with_key("ann@example.org")


def test_the_first_call_opens_the_address_and_says_what_is_accepted(
    bank: Bank, ann: tuple[Any, ApiClient]
) -> None:
    user, client = ann
    DepositRule.objects.create(asset=bank.native, minimum_units=ETHER // 1000)
    Network.objects.update(confirmations=12, block_time_seconds=12)
    assert not DepositAddress.objects.exists()

    document = client.get(ADDRESSES).json()

    address = DepositAddress.objects.get(user=user)
    (shown,) = document["data"]
    assert shown["address"] == checksum(address.address) != address.address
    assert client.get(ADDRESSES).json() == document
    native, usdc = shown["accepted"]
    assert {name: value for name, value in usdc.items() if name != "qr_svg"} == {
        "network_id": str(bank.network.pk),
        "network": "mainnet",
        "chain_id": 1,
        "status": "running",
        "asset": "USDC",
        "name": "USD Coin",
        "decimals": 6,
        "token_address": checksum(CONTRACT),
        "minimum": "0.000001",
        "minimum_units": "1",
        "confirmations": 12,
        "expected_seconds": 144,
        "payment_uri": f"ethereum:{checksum(CONTRACT)}@1/transfer?address={shown['address']}",
    }
    assert (native["asset"], native["token_address"], native["minimum"]) == ("ETH", None, "0.001")
    assert native["payment_uri"] == f"ethereum:{shown['address']}@1"


def test_the_qr_code_is_a_plain_svg_of_the_uri(bank: Bank, ann: tuple[Any, ApiClient]) -> None:
    import segno

    (shown,) = ann[1].get(ADDRESSES).json()["data"]
    (usdc,) = shown["accepted"]
    drawing = ET.fromstring(usdc["qr_svg"])  # noqa: S314 — our own
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    side = segno.make_qr(usdc["payment_uri"], error="m").symbol_size(border=4)[0]
    assert drawing.attrib["viewBox"] == f"0 0 {side} {side}"
    assert not re.search(r"script|href|http(?!://www.w3.org)", usdc["qr_svg"])


def test_what_is_switched_off_is_not_offered(bank: Bank, ann: tuple[Any, ApiClient]) -> None:
    client = ann[1]
    Network.objects.update(halted_at=clock.now())
    assert client.get(ADDRESSES).json()["data"][0]["accepted"][0]["status"] == "halted"
    for switched in (Token.objects, DepositRule.objects):
        switched.update(enabled=False)
        assert client.get(ADDRESSES).json()["data"][0]["accepted"] == []
        switched.update(enabled=True)


def test_without_an_extended_key_it_says_so(bank: Bank, ann: tuple[Any, ApiClient], settings: Any) -> None:
    settings.DEPOSIT_XPUB = ""
    problem(ann[1].get(ADDRESSES), 503, "deposits_unavailable", retryable=True)
    assert not DepositAddress.objects.exists()


def test_a_deposit_is_shown_whole(bank: Bank, ann: tuple[Any, ApiClient]) -> None:
    user, client = ann
    address = deposit_address_open(user_id=user.pk)
    row = bank.credited(user, 25 * USDC + 1, transaction="one", position=3)

    document = client.get(f"{DEPOSITS}/{row.pk}").json()

    assert document == {
        "id": str(row.pk),
        "state": "credited",
        "reason": "",
        "network_id": str(bank.network.pk),
        "network": "mainnet",
        "asset": "USDC",
        "token_address": checksum(CONTRACT),
        "kind": "token",
        "address": checksum(address.address),
        "sender": checksum(STRANGER),
        "amount": "25.000001",
        "amount_units": "25000001",
        "measured": "25.000001",
        "measured_units": "25000001",
        "credited": "25.000001",
        "credited_units": "25000001",
        "owed": "0",
        "owed_units": "0",
        "transaction_hash": hash_of("transaction", "one"),
        "position": 3,
        "block_number": 5,
        "block_time": document["block_time"],
        "confirmations": 5,
        "confirmations_needed": 3,
        "created_at": document["created_at"],
        "credited_at": document["credited_at"],
    }
    assert client.get(DEPOSITS).json() == {"data": [document], "next_cursor": None}


def test_a_token_that_nobody_knows_has_units_only(bank: Bank, ann: tuple[Any, ApiClient]) -> None:
    user, client = ann
    deposit_address_open(user_id=user.pk)
    bank.seen(bank.sighting(user, 5, contract="0x" + "ee" * 20))

    (shown,) = client.get(DEPOSITS).json()["data"]

    assert (shown["asset"], shown["amount"], shown["amount_units"], shown["measured"]) == (
        None,
        None,
        "5",
        None,
    )


def test_they_are_paged_and_filtered(bank: Bank, ann: tuple[Any, ApiClient]) -> None:
    user, client = ann
    deposit_address_open(user_id=user.pk)
    tokens = [bank.credited(user, 1 + number) for number in range(3)]
    bank.credited(bank.person(), 77)
    (native,) = bank.seen(bank.sighting(user, 9, kind=DepositKind.NATIVE, contract=""))
    everything = [str(row.pk) for row in [native, *reversed(tokens)]]

    def ids(**query: str) -> list[str]:
        return [one["id"] for one in client.get(DEPOSITS, query).json()["data"]]

    assert ids() == everything
    assert ids(state="seen") == ids(asset="ETH") == everything[:1]
    assert ids(asset="USDC", state="credited") == everything[1:]
    assert ids(network_id=str(bank.network.pk)) == everything
    assert ids(network_id=str(uuid7())) == ids(state="frozen") == []
    walked: list[str] = []
    cursor = None
    while True:
        page = client.get(DEPOSITS, {"limit": "3", **({"cursor": cursor} if cursor else {})}).json()
        walked += [one["id"] for one in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert walked == everything


@pytest.mark.parametrize(
    ("path", "query", "parameter", "code"),
    [
        (DEPOSITS, {"state": "arrived"}, "state", "invalid_choice"),
        (DEPOSITS, {"state": ""}, "state", "invalid_choice"),
        (DEPOSITS, {"asset": "DOGE"}, "asset", "unknown_asset"),
        (DEPOSITS, {"asset": "x" * 400}, "asset", "unknown_asset"),
        (DEPOSITS, {"asset": "US\x00DC"}, "asset", "unknown_asset"),
        (DEPOSITS, {"asset": "usdc"}, "asset", "unknown_asset"),
        (DEPOSITS, {"asset": ["USDC", "ETH"]}, "asset", "repeated"),
        (DEPOSITS, {"state": "SEEN"}, "state", "invalid_choice"),
        (DEPOSITS, {"network_id": "1"}, "network_id", "invalid"),
        (DEPOSITS, {"network_id": NOBODY + "\x00"}, "network_id", "invalid"),
        (DEPOSITS, {"limit": "1e1"}, "limit", "invalid"),
        (DEPOSITS, {"limit": "9" * 5_000}, "limit", "invalid"),
        (DEPOSITS, {"network_id": "urn:uuid:" + "0" * 32}, "network_id", "invalid"),
        (DEPOSITS, {"limit": "0"}, "limit", "min_value"),
        (DEPOSITS, {"limit": "101"}, "limit", "max_value"),
        (DEPOSITS, {"limit": "ten"}, "limit", "invalid"),
        (DEPOSITS, {"user_id": NOBODY}, "user_id", "unknown_field"),
        (ADDRESSES, {"user_id": NOBODY}, "user_id", "unknown_field"),
        (ADDRESSES, {"index": "0"}, "index", "unknown_field"),
        (f"{DEPOSITS}/{NOBODY}", {"state": "seen"}, "state", "unknown_field"),
    ],
)
def test_bad_queries_are_pointed_at(
    bank: Bank, ann: tuple[Any, ApiClient], path: str, query: dict[str, Any], parameter: str, code: str
) -> None:
    problem(ann[1].get(path, query), 400, "validation_failed", errors=[(parameter, code)])
    assert not DepositAddress.objects.exists()


def test_a_cursor_of_another_list_is_refused(bank: Bank, ann: tuple[Any, ApiClient]) -> None:
    for cursor in ("abc", "=" * 99, "ÿ"):
        problem(
            ann[1].get(DEPOSITS, {"cursor": cursor}),
            400,
            "invalid_cursor",
            errors=[("cursor", "invalid_cursor")],
        )


def test_another_persons_deposit_is_not_there(bank: Bank, ann: tuple[Any, ApiClient]) -> None:
    row = bank.credited(bank.person(), 5)
    for deposit_id in (row.pk, uuid7()):
        problem(ann[1].get(f"{DEPOSITS}/{deposit_id}"), 404, "not_found")
    problem(ann[1].get(f"{DEPOSITS}/7"), 404, "not_found")
    assert ann[1].get(DEPOSITS).json()["data"] == []


@pytest.mark.parametrize("path", [ADDRESSES, DEPOSITS, f"{DEPOSITS}/{NOBODY}"])
def test_without_key_or_scope_nothing_opens(bank: Bank, path: str) -> None:
    _, other = user_with_key("ben@example.org", scopes=["plans:read"])
    problem(ApiClient().get(path), 401, "not_authenticated")
    problem(other.get(path), 403, "insufficient_scope")
    assert not DepositAddress.objects.exists()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", [ADDRESSES, DEPOSITS, f"{DEPOSITS}/{NOBODY}"])
def test_nothing_can_be_written(bank: Bank, ann: tuple[Any, ApiClient], path: str, method: str) -> None:
    problem(ann[1].send(method, path, body={"amount": "1"}), 405, "method_not_allowed")
    assert not Deposit.objects.exists()


def test_reading_takes_a_fixed_number_of_queries(
    bank: Bank, ann: tuple[Any, ApiClient], django_assert_num_queries: Callable[..., Any]
) -> None:
    user, client = ann
    deposit_address_open(user_id=user.pk)
    rows = [bank.credited(user, 5) for _ in range(4)]
    client.get(DEPOSITS)
    for path, count in ((DEPOSITS, 2), (f"{DEPOSITS}/{rows[0].pk}", 2), (ADDRESSES, 5)):
        with django_assert_num_queries(count):
            assert client.get(path).status_code == 200, path
