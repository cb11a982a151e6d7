"""Closing an account: what stands in the way, what goes, what stays."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.accounts import closing, exports
from apps.accounts.domain import Scope
from apps.accounts.exports import BUILD, DELETE
from apps.accounts.me.models import ExportPart, Preferences
from apps.accounts.me.preferences import preferences_set
from apps.accounts.models import ApiKey, User
from apps.accounts.services import api_key_create, user_create, user_freeze
from apps.core import clock, invariants, work
from apps.core.errors import DomainError
from apps.events.models import Event
from apps.launch.models import Invitation, InvitationBatch, WaitlistEntry
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account, Journal
from apps.mail.models import Message
from apps.plans.models import Plan
from apps.withdrawals.models import WithdrawalDestination
from tests.accounts.tokens.support import sign_in
from tests.chain import test_kills as chain_kills
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.deposits.support import USDC, Bank
from tests.withdrawals.support import Desk

CLOSE, ME = "/api/v1/me/close", "/api/v1/me"
STEPS = """
import sys, uuid
import django
django.setup()
from apps.accounts.closing import account_close
account_close(user_id=uuid.UUID(sys.argv[1]))
"""


def at_their_device(user: User) -> ApiClient:
    """Where accounts are closed from: a session that has just shown who they are."""
    return ApiClient(sign_in(user).access_token)


def close(user: User, **body: Any) -> Any:
    return at_their_device(user).post(CLOSE, {"email": user.email, **body})


def obstacles(answer: Any) -> dict[str, int]:
    assert (answer.status_code, answer.json()["code"]) == (409, "account_in_use"), answer.content
    assert all(one["detail"] for one in answer.json()["obstacles"])
    return {one["code"]: one["count"] for one in answer.json()["obstacles"]}


@pytest.mark.django_db
def test_a_closed_account_is_nobody_and_its_email_is_free() -> None:
    user, client = user_with_key("ann@example.org")
    other = ApiClient(api_key_create(user_id=user.pk, name="Ann's laptop", scopes=Scope).key)
    preferences_set(user_id=user.pk, zone="Europe/Berlin")
    WaitlistEntry.objects.create(email=user.email, referral_code="ABC")
    batch = InvitationBatch.objects.create(name="b", actor="op")
    Invitation.objects.create(
        batch=batch, email=user.email, state="accepted", user=user, accepted_at=clock.now()
    )

    assert close(user).status_code == 204

    row = User.objects.get(pk=user.pk)
    assert (row.email, row.is_active) == (f"closed-{user.pk}@closed.invalid", False)
    assert row.closed_at is not None
    assert not row.has_usable_password()
    for one in (client, other):
        problem(one.get(ME), 401, "invalid_api_key")
    assert not ApiKey.objects.filter(revoked_at__isnull=True).exists()
    assert set(ApiKey.objects.values_list("name", flat=True)) == {""}
    assert not Preferences.objects.exists()
    assert not WaitlistEntry.objects.exists()
    assert "ann@" not in str(list(Invitation.objects.values()))
    assert Event.objects.filter(topic="person.closed", subject_id=user.pk).count() == 1
    told = Message.objects.get(template="account_closed")
    assert (told.to, told.template, told.essential) == ("ann@example.org", "account_closed", True)
    assert user_create(email="ann@example.org").pk != user.pk


@pytest.mark.django_db
def test_another_email_closes_nothing() -> None:
    user, client = user_with_key("ann@example.org")
    device = at_their_device(user)
    problem(
        device.post(CLOSE, {"email": "bea@example.org"}),
        400,
        "email_differs",
        errors=[("/email", "email_differs")],
    )
    problem(device.post(CLOSE, {}), 400, "validation_failed", errors=[("/email", "required")])
    assert client.get(ME).status_code == 200
    assert User.objects.get(pk=user.pk).closed_at is None


@pytest.mark.django_db
def test_staff_and_frozen_people_stay() -> None:
    user, client = user_with_key(is_staff=True)
    user_freeze(user_id=user.pk, reason="look")
    assert obstacles(close(user)) == {"staff": 1, "frozen": 1}
    assert client.get(ME).status_code == 200


def test_balances_and_arriving_deposits_stand_in_the_way(bank: Bank) -> None:
    person = bank.person()
    bank.confirming(person, 5 * USDC)
    assert obstacles(close(person)) == {"deposits": 1}
    bank.credit()
    assert obstacles(close(person)) == {"balance": 1}


def test_withdrawals_held_money_and_plans_stand_in_the_way(desk: Desk) -> None:
    person = desk.person()
    desk.fund(person, "USDC", 500 * 10**6)
    withdrawal = desk.request(person, "USDC", 500 * 10**6)
    (market,) = [one for pair, one in desk.seeded.markets.items() if pair == ("USDC", "WBTC")]
    plans = [
        Plan.objects.create(
            owner=person, market=market, name="mine", amount_units=10**6, schedule_kind="daily", zone="UTC",
            start_at=clock.now(), state=state,
        )
        for state in ("active", "paused", "cancelled")
    ]  # fmt: skip

    assert obstacles(close(person)) == {"held": 1, "plans": 2, "withdrawals": 1}

    desk.finish()
    withdrawal.refresh_from_db()
    assert withdrawal.state == "confirmed"
    Plan.objects.filter(owner=person).update(state="cancelled")
    left = desk.balance(person, "USDC")
    assert 0 < left < 10**6
    # What came back of the fee is too small to be withdrawn, and still theirs until they say otherwise.
    assert obstacles(close(person)) == {"balance": 1}
    text = f"{left / 10**6:.6f}".rstrip("0")
    desk.prices()
    wrong = close(person, give_up={"USDC": "0.1"})
    problem(wrong, 409, "remainder_differs", errors=[("/give_up/USDC", "remainder_differs")])
    assert not Journal.objects.filter(kind="remainder_given_up").exists()

    assert close(person, give_up={"USDC": text}).status_code == 204

    assert desk.balance(person, "USDC") == 0
    journal = Journal.objects.get(kind="remainder_given_up")
    assert journal.entries.count() == 2
    assert Account.objects.get(kind=AccountKind.EQUITY, asset=desk.asset("USDC")).balance_units
    assert set(Plan.objects.filter(pk__in=[one.pk for one in plans]).values_list("name", flat=True)) == {""}
    assert set(WithdrawalDestination.objects.values_list("label", flat=True)) == {""}
    broken = [one for one in invariants.run_all() if not one.holds]
    assert broken == []


def test_what_can_be_withdrawn_cannot_be_given_up(desk: Desk) -> None:
    person = desk.person()
    desk.fund(person, "USDC", 500 * 10**6)
    answer = close(person, give_up={"USDC": "500"})
    problem(answer, 409, "remainder_withdrawable", errors=[("/give_up/USDC", "remainder_withdrawable")])
    assert desk.balance(person, "USDC") == 500 * 10**6


def test_the_invariant_finds_money_of_somebody_who_is_gone(bank: Bank) -> None:
    person = bank.person()
    closing.account_close(user_id=person.pk)
    verdicts = {one.name: one for one in invariants.run_all()}
    assert verdicts["accounts.closed_have_nothing"].holds

    bank.confirming(person, 5 * USDC)
    bank.credit()

    verdict = next(one for one in invariants.run_all() if one.name == "accounts.closed_have_nothing")
    assert verdict.violations == (f"{person.pk}: balance",)


@pytest.mark.django_db(transaction=True)
def test_no_export_outlives_its_account() -> None:
    user, _ = user_with_key()
    exports.export_request(user_id=user.pk)
    work.drain(BUILD, budget_seconds=0)
    exports.export_request(user_id=user.pk)
    assert close(user).status_code == 204
    work.drain(BUILD, budget_seconds=0)
    work.drain(DELETE, budget_seconds=0)
    assert not ExportPart.objects.exists()
    assert set(user.exports.values_list("state", flat=True)) == {"deleted"}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["accounts.close.erased", "accounts.close.before_commit"])
def test_killed_anywhere_nothing_is_closed_and_asking_again_closes_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_kills, "STEPS", STEPS)
    user, client = user_with_key("ann@example.org")

    assert chain_kills.run(str(user.pk), tmp_path, place) == -9

    user.refresh_from_db()
    assert (user.is_active, user.email, user.api_keys.filter(revoked_at=None).count()) == (
        True,
        "ann@example.org",
        1,
    )
    assert client.get(ME).status_code == 200

    assert chain_kills.run(str(user.pk), tmp_path) == 0
    user.refresh_from_db()
    assert (user.is_active, user.api_keys.filter(revoked_at=None).count()) == (False, 0)
    assert client.get(ME).status_code == 401


@pytest.mark.django_db(transaction=True)
def test_closing_twice_at_once_closes_once() -> None:
    user, _ = user_with_key()

    def go(_: int) -> str:
        try:
            closing.account_close(user_id=user.pk)
        except DomainError as error:
            return error.code
        finally:
            connections.close_all()
        return ""

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(go, range(2))) == ["", "not_found"]
    assert Event.objects.filter(topic="person.closed").count() == 1
    assert Message.objects.filter(template="account_closed").count() == 1
