"""Withdrawals over REST: what is promised, what is refused, and that a refusal changes nothing."""

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from apps.core import clock
from apps.core.ids import uuid7
from apps.events.models import Event
from apps.ledger.domain import AccountKind
from apps.providers.models import PriceSnapshot
from apps.withdrawals.domain import WithdrawalState
from apps.withdrawals.models import Withdrawal
from apps.withdrawals.moves import withdrawals_move
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.withdrawals.api.conftest import OUTSIDE, USDC, Office, everything

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/v1/withdrawals"
DAY, TICK = timedelta(days=1), timedelta(microseconds=1)


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


def test_the_days_limit_slides_and_what_came_back_does_not_count(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = office.row(amount="400")
    problem(office.post(amount="100.000001"), 409, "daily_limit")
    assert office.client.post(f"{URL}/{first.pk}/cancel").status_code == 200
    oldest = office.row(amount="300")
    office.row(amount="200")
    problem(office.post(amount="4"), 409, "daily_limit")

    def asked(at: datetime) -> Any:
        """While time stands still."""
        PriceSnapshot.objects.update(refreshed_at=at)
        with monkeypatch.context() as still:
            still.setattr(clock, "_clock", lambda: SimpleNamespace(now=lambda: at))
            return office.post(amount="4")

    problem(asked(oldest.created_at + DAY - TICK), 409, "daily_limit")
    assert asked(oldest.created_at + DAY).status_code == 201


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


@pytest.mark.parametrize(
    ("query", "name", "code"),
    [
        ({"state": "gone"}, "state", "invalid_choice"),
        ({"state": ""}, "state", "invalid_choice"),
        ({"state": ["sent", "failed"]}, "state", "repeated"),
        ({"asset": "SHIB"}, "asset", "unknown_asset"),
        ({"asset": "US\x00DC"}, "asset", "unknown_asset"),
        ({"limit": "0"}, "limit", "min_value"),
        ({"limit": "101"}, "limit", "max_value"),
        ({"limit": "9" * 5_000}, "limit", "invalid"),
        ({"limit": "ten"}, "limit", "invalid"),
        ({"colour": "red"}, "colour", "unknown_field"),
        ({"user_id": str(uuid7())}, "user_id", "unknown_field"),
    ],
)
def test_bad_queries_are_pointed_at(office: Office, query: dict[str, Any], name: str, code: str) -> None:
    problem(office.client.get(URL, query), 400, "validation_failed", errors=[(name, code)])
    for cursor in ("x", "=" * 99, "9" * 101):
        assert office.client.get(URL, {"cursor": cursor}).status_code == 400


def test_one_withdrawal_takes_no_query_and_what_is_no_id_is_not_found(office: Office) -> None:
    row = office.row()
    before = everything()
    problem(
        office.client.get(f"{URL}/{row.pk}", {"user_id": str(office.user.pk)}),
        400,
        "validation_failed",
        errors=[("user_id", "unknown_field")],
    )
    for text in ("7", f"{row.pk}0"):
        problem(office.client.get(f"{URL}/{text}"), 404, "not_found")
        for action in ("cancel", "confirm"):
            problem(office.client.post(f"{URL}/{text}/{action}", {"code": "1"}), 404, "not_found")
    for body in (b"[]", b'"text"', b"1"):
        problem(office.client.post(f"{URL}/{row.pk}/confirm", body), 400, "validation_failed")
        problem(office.client.post(URL, body, idempotency_key="list"), 400, "validation_failed")
    assert everything() == before


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
