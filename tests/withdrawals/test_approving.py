"""Whose word is needed before money leaves: the person's factor, two operators, never the person's own."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.core import work
from apps.core.errors import Conflict, DomainError, NotFound
from apps.ledger.domain import AccountKind
from apps.withdrawals import services
from apps.withdrawals.kinds import CHECK_WORK
from apps.withdrawals.models import Withdrawal, WithdrawalApproval, WithdrawalRule
from tests.withdrawals.api.test_confirming import Codes
from tests.withdrawals.support import Desk, books_hold, journals, topics

pytestmark = pytest.mark.django_db(transaction=True)
WHOLE = 10**6


@pytest.fixture
def row(desk: Desk) -> Withdrawal:
    """600 USDC, above a threshold of 500, checked."""
    desk.rule("USDC", approval_above_units=500 * WHOLE)
    person = desk.person()
    desk.fund(person, "USDC", 1_000 * WHOLE)
    row = desk.request(person, "USDC", 600 * WHOLE)
    desk.step(CHECK_WORK)
    row.refresh_from_db()
    return row


def test_above_the_threshold_two_different_operators_must_agree(desk: Desk, row: Withdrawal) -> None:
    assert row.state == "awaiting_approval"
    first, second = desk.operator(), desk.operator()

    after = services.withdrawal_approve(withdrawal_id=row.pk, operator_id=first.pk, note="known person")
    assert after.state == "awaiting_approval"
    with pytest.raises(Conflict) as twice:
        services.withdrawal_approve(withdrawal_id=row.pk, operator_id=first.pk, note="and again")
    assert twice.value.code == "approved_already"
    after = services.withdrawal_approve(withdrawal_id=row.pk, operator_id=second.pk, note="called them")
    assert after.state == "approved"
    with pytest.raises(Conflict):
        services.withdrawal_approve(withdrawal_id=row.pk, operator_id=desk.operator().pk, note="late")
    desk.finish()

    row.refresh_from_db()
    assert row.state == "confirmed"
    assert topics(row) == [
        "withdrawal.requested",
        "withdrawal.awaiting_approval",
        "withdrawal.approved",
        "withdrawal.sent",
        "withdrawal.confirmed",
    ]
    books_hold()


def test_exactly_the_threshold_needs_nobody(desk: Desk) -> None:
    desk.rule("USDC", approval_above_units=500 * WHOLE)
    person = desk.person()
    desk.fund(person, "USDC", 500 * WHOLE)
    row = desk.request(person, "USDC", 500 * WHOLE)
    desk.step(CHECK_WORK)
    row.refresh_from_db()
    assert row.state == "approved"


def test_nobody_decides_about_their_own_nor_without_a_note_nor_without_being_an_operator(
    desk: Desk, row: Withdrawal
) -> None:
    User.objects.filter(pk=row.user_id).update(is_staff=True)
    for decide in (services.withdrawal_approve, services.withdrawal_reject):
        with pytest.raises(Conflict) as own:
            decide(withdrawal_id=row.pk, operator_id=row.user_id, note="mine")
        assert own.value.code == "own_withdrawal"
        with pytest.raises(NotFound):
            decide(withdrawal_id=row.pk, operator_id=desk.person().pk, note="no operator")
        with pytest.raises(DomainError) as silent:
            decide(withdrawal_id=row.pk, operator_id=desk.operator().pk, note="  ")
        assert silent.value.code == "reason_missing"
    assert not WithdrawalApproval.objects.exists()
    row.refresh_from_db()
    assert row.state == "awaiting_approval"


def test_one_operator_rejects_and_the_hold_comes_back(desk: Desk, row: Withdrawal) -> None:
    services.withdrawal_approve(withdrawal_id=row.pk, operator_id=desk.operator().pk, note="fine")
    services.withdrawal_reject(withdrawal_id=row.pk, operator_id=desk.operator().pk, note="it is not")

    row.refresh_from_db()
    assert (row.state, row.reason, row.detail) == ("rejected", "by_operator", "it is not")
    assert desk.balance(row.user, "USDC") == 1_000 * WHOLE
    assert journals(row) == ["hold", "release"]
    assert topics(row)[-1] == "withdrawal.rejected"
    shown = desk.api(row.user).get(f"/api/v1/withdrawals/{row.pk}").json()
    assert (shown["reason"], shown["detail"]) == ("by_operator", "")
    books_hold()


def test_terms_that_are_gone_let_nothing_out_unseen(desk: Desk) -> None:
    person = desk.person()
    desk.fund(person, "USDC", 10 * WHOLE)
    row = desk.request(person, "USDC", 5 * WHOLE)
    WithdrawalRule.objects.filter(asset=desk.asset("USDC")).delete()
    desk.step(CHECK_WORK)
    row.refresh_from_db()
    assert row.state == "awaiting_approval"


def test_who_has_a_second_factor_is_asked_and_then_the_operators(desk: Desk) -> None:
    desk.rule("USDC", approval_above_units=500 * WHOLE)
    person = desk.person()
    desk.fund(person, "USDC", 1_000 * WHOLE)
    second_factor.install(Codes(person, {"1", "2"}))
    large, small = desk.request(person, "USDC", 600 * WHOLE), desk.request(person, "USDC", 100 * WHOLE)
    desk.step(CHECK_WORK)
    for row in (large, small):
        row.refresh_from_db()
        assert row.state == "awaiting_confirmation"
    client = desk.api(person)
    for row, code, state in ((large, "1", "awaiting_approval"), (small, "2", "approved")):
        answer = client.post(f"/api/v1/withdrawals/{row.pk}/confirm", {"code": code})
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    assert desk.balance(person, "USDC", AccountKind.HELD) == 700 * WHOLE


def test_operators_see_the_queue_and_decide_with_a_note(desk: Desk, row: Withdrawal) -> None:
    """Through the admin: looking is one permission, deciding another."""
    url = reverse("admin:withdrawals_withdrawal_changelist")
    operators = [desk.operator(), desk.operator()]
    view, change = (
        Permission.objects.get(codename=f"{verb}_withdrawal", content_type__app_label="withdrawals")
        for verb in ("view", "change")
    )
    form = {"action": "approve", "_selected_action": [str(row.pk)]}
    for number, operator in enumerate(operators):
        operator.user_permissions.add(view)
        client = Client()
        client.force_login(operator)
        assert row.user.email in client.get(url, {"state__exact": "awaiting_approval"}).content.decode()
        assert client.get(reverse("admin:withdrawals_withdrawal_change", args=[row.pk])).status_code == 200
        client.post(url, {**form, "note": "not allowed to"})
        assert WithdrawalApproval.objects.count() == number
        operator.user_permissions.add(change)
        asked = client.post(url, form)
        assert b"kept with the decision" in asked.content
        assert WithdrawalApproval.objects.count() == number
        assert client.post(url, {**form, "note": "looks right"}).status_code == 302
        client.post(url, {**form, "note": "twice"})
        assert WithdrawalApproval.objects.count() == number + 1
    row.refresh_from_db()
    assert row.state == "approved"
    assert client.get(reverse("admin:withdrawals_withdrawal_add")).status_code == 403


def test_a_silent_node_holds_the_check_back_and_loses_nothing(desk: Desk) -> None:
    from apps.chain.models import RpcEndpoint

    person = desk.person()
    desk.fund(person, "USDC", 10 * WHOLE)
    row = desk.request(person, "USDC", 5 * WHOLE)
    RpcEndpoint.objects.update(enabled=False)
    work.drain(CHECK_WORK)
    row.refresh_from_db()
    assert (row.state, row.attempts, row.last_error) == ("requested", 1, "no endpoint is usable")
    RpcEndpoint.objects.update(enabled=True)
    desk.finish()
    row.refresh_from_db()
    assert row.state == "confirmed"
