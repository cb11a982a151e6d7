"""Each lock: first the race with the lock off, then gone with it on."""

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db import transaction

from apps.accounts.models import User
from apps.chain import kinds as chain_kinds
from apps.chain.models import OutboundTransaction
from apps.core import work
from apps.core.errors import Conflict, DomainError
from apps.core.work import Claim
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.treasury.spending import units_free
from apps.withdrawals import limits, services
from apps.withdrawals.domain import WithdrawalState
from apps.withdrawals.kinds import CHECK_WORK, SEND_WORK, SETTLE_WORK
from apps.withdrawals.models import Withdrawal, WithdrawalApproval, WithdrawalRule
from apps.withdrawals.moves import withdrawals_move
from apps.withdrawals.sending import _commit, _look, _send
from tests.plans.test_races import together, void
from tests.withdrawals.support import Desk, books_hold, journals, topics

pytestmark = pytest.mark.django_db(transaction=True)
WHOLE = 10**6


def funded(desk: Desk, usdc: int = 1_000) -> User:
    person = desk.person()
    desk.fund(person, "USDC", usdc * WHOLE)
    return person


def asked(desk: Desk, usdc: int = 100) -> Withdrawal:
    row = desk.request(funded(desk), "USDC", usdc * WHOLE)
    desk.step(CHECK_WORK)
    row.refresh_from_db()
    return row


def test_without_the_rules_lock_two_requests_pass_a_limit_that_only_one_may(desk: Desk) -> None:
    """Both count before either has written: the limit is 150 and 200 leave."""
    rule = desk.rule("USDC", person_daily_units=150 * WHOLE)
    person = funded(desk)
    both_counted = threading.Barrier(2)

    def request_unlocked() -> None:
        with transaction.atomic():
            limits.limits_check(
                rule=WithdrawalRule.objects.get(pk=rule.pk),
                asset=desk.asset("USDC"),
                user_id=person.pk,
                amount_units=100 * WHOLE,
            )
            both_counted.wait()
            Withdrawal.objects.create(
                user=person,
                asset=desk.asset("USDC"),
                network=desk.seeded.network,
                destination="0x" + "e" * 40,
                amount_units=100 * WHOLE,
                fee_units=0,
                sent_units=100 * WHOLE,
            )

    assert together(request_unlocked, request_unlocked) == []
    assert sum(row.amount_units for row in Withdrawal.objects.all()) == 200 * WHOLE


@pytest.mark.parametrize("whose", ["one person's", "everybody's"])
def test_with_the_rules_lock_the_limit_holds_however_many_ask_at_once(desk: Desk, whose: str) -> None:
    if whose == "one person's":
        desk.rule("USDC", person_daily_units=350 * WHOLE)
        people = [funded(desk)] * 8
    else:
        desk.rule("USDC", platform_hourly_units=350 * WHOLE)
        people = [funded(desk) for _ in range(8)]
    destinations = {person.pk: desk.destination(person) for person in people[:1]}
    for person in people:
        if person.pk not in destinations:
            destinations[person.pk] = desk.destination(person)

    def job(person: User) -> Callable[[], None]:
        return lambda: void(desk.request(person, "USDC", 100 * WHOLE, destinations[person.pk]))

    raised = together(*[job(person) for person in people])

    code = "daily_limit" if whose == "one person's" else "platform_limit"
    assert [error.code for error in raised if isinstance(error, DomainError)] == [code] * 5
    assert len(raised) == 5
    assert Withdrawal.objects.count() == 3
    assert sum(desk.balance(p, "USDC", AccountKind.HELD) for p in set(people)) == 300 * WHOLE
    books_hold()


def test_two_requests_cannot_hold_the_same_money(desk: Desk) -> None:
    person = funded(desk, 150)
    destination = desk.destination(person)
    raised = together(*[lambda: void(desk.request(person, "USDC", 100 * WHOLE, destination))] * 4)

    assert [getattr(error, "code", error) for error in raised] == ["insufficient_funds"] * 3
    assert desk.balance(person, "USDC", AccountKind.HELD) == 100 * WHOLE
    books_hold()


def test_cancelled_by_many_at_once_the_hold_comes_back_once(desk: Desk) -> None:
    row = asked(desk)
    raised = together(
        *[lambda: void(services.withdrawal_cancel(user_id=row.user_id, withdrawal_id=row.pk))] * 5
    )
    assert raised == []
    assert desk.balance(row.user, "USDC") == 1_000 * WHOLE
    assert journals(row) == ["hold", "release"]
    assert topics(row).count("withdrawal.cancelled") == 1


def test_one_operator_who_clicks_twice_at_once_is_one_word(desk: Desk) -> None:
    desk.rule("USDC", approval_above_units=0)
    row = asked(desk)
    operator = desk.operator()

    def approve() -> None:
        services.withdrawal_approve(withdrawal_id=row.pk, operator_id=operator.pk, note="yes")

    raised = together(*[approve] * 4)
    assert [getattr(error, "code", error) for error in raised] == ["approved_already"] * 3
    row.refresh_from_db()
    assert (row.state, WithdrawalApproval.objects.count()) == ("awaiting_approval", 1)


def test_two_operators_at_once_approve_once(desk: Desk) -> None:
    desk.rule("USDC", approval_above_units=0)
    row = asked(desk)

    def approve_as(operator: User) -> Callable[[], None]:
        return lambda: void(
            services.withdrawal_approve(withdrawal_id=row.pk, operator_id=operator.pk, note="yes")
        )

    raised = together(*[approve_as(desk.operator()) for _ in range(4)])
    assert [getattr(error, "code", error) for error in raised] == ["not_awaiting_approval"] * 2
    row.refresh_from_db()
    assert (row.state, WithdrawalApproval.objects.count()) == ("approved", 2)
    assert topics(row).count("withdrawal.approved") == 1


def test_cancel_and_send_at_once_end_one_way(desk: Desk) -> None:
    person = funded(desk)
    destination = desk.destination(person)
    rows = [desk.request(person, "USDC", 10 * WHOLE, destination) for _ in range(12)]
    desk.step(CHECK_WORK)
    desk.due()
    single = work.Work(
        "withdrawals.send", Withdrawal, ("approved",), perform=SEND_WORK.perform, whole=True, chunk=3
    )

    def cancel_all() -> None:
        for row in reversed(rows):
            with suppress(Conflict):
                services.withdrawal_cancel(user_id=person.pk, withdrawal_id=row.pk)

    raised = together(lambda: void(work.drain(single)), cancel_all, lambda: void(work.drain(single)))
    assert raised == []
    desk.finish()
    states = list(Withdrawal.objects.values_list("state", flat=True))
    assert set(states) <= {"cancelled", "confirmed"}
    arrived = Withdrawal.objects.filter(state="confirmed")
    assert desk.on_chain("USDC", destination) == sum(row.sent_units for row in arrived)
    assert OutboundTransaction.objects.count() == len(arrived)
    books_hold()


def test_without_the_wallets_lock_two_workers_promise_its_units_twice(desk: Desk) -> None:
    """Both saw 100 free, each sends 80."""
    _two_of_eighty(desk)
    outlooks = [_look(desk.seeded.network, [row]) for row in _claimed()]
    both_saw = threading.Barrier(2)

    def send_unlocked(number: int) -> Callable[[], None]:
        def job() -> None:
            row = _claimed()[number]
            asset_id = desk.asset("USDC").pk
            free = units_free(
                network_id=row.network_id, wallet_id=outlooks[number].wallet.pk, asset_id=asset_id
            )
            both_saw.wait()
            assert free >= row.sent_units
            with transaction.atomic():
                _send([row], outlooks[number])

        return job

    assert together(send_unlocked(0), send_unlocked(1)) == []
    assert list(Withdrawal.objects.values_list("state", flat=True)) == ["sending"] * 2


def test_with_the_wallets_lock_the_second_waits_for_collection(desk: Desk) -> None:
    _two_of_eighty(desk)
    desk.due()
    both_looked = threading.Barrier(2)

    def job(claim: Claim[Withdrawal]) -> Callable[[], None]:
        def run() -> None:
            outlook = _look(desk.seeded.network, list(Withdrawal.objects.filter(pk__in=claim.ids)))
            both_looked.wait()
            _commit(claim, claim.ids, outlook)

        return run

    claims = [work.claim_due(_one()) for _ in range(2)]
    assert together(*[job(claim) for claim in claims]) == []
    assert sorted(Withdrawal.objects.values_list("state", "wait_reason")) == [
        ("approved", "awaiting_collection"),
        ("sending", ""),
    ]


def _two_of_eighty(desk: Desk) -> None:
    """Two approved withdrawals of 80 from a wallet that has 100, in the books and on chain."""
    asked(desk), asked(desk)
    Withdrawal.objects.update(amount_units=80 * WHOLE, sent_units=80 * WHOLE, fee_units=0, flat_fee_units=0)
    asset_id = desk.asset("USDC").pk
    here = AccountKey(AccountKind.CUSTODY, asset_id, ref=desk.seeded.wallet.address)
    there = AccountKey(AccountKind.CUSTODY, asset_id, ref="0x" + "9" * 40)
    accounts = accounts_open(keys=[here, there])
    booked = -desk.platform_units(AccountKind.CUSTODY, "USDC")
    away = booked - 100 * WHOLE
    postings = [Posting(accounts[here], away), Posting(accounts[there], -away)]
    journals_post(drafts=[JournalDraft("elsewhere", "test:elsewhere", postings)])


def _one() -> work.Work[Withdrawal]:
    return work.Work(
        "withdrawals.send", Withdrawal, ("approved",), perform=SEND_WORK.perform, whole=True, chunk=1
    )


def _claimed() -> list[Withdrawal]:
    return list(Withdrawal.objects.filter(state="approved").order_by("created_at", "pk"))


def test_settled_by_many_workers_at_once_each_is_booked_once(desk: Desk) -> None:
    person = funded(desk)
    destination = desk.destination(person)
    for _ in range(9):
        desk.request(person, "USDC", 10 * WHOLE, destination)
    desk.step(CHECK_WORK, SEND_WORK)
    for _ in range(4):
        desk.step(chain_kinds.SIGN_WORK, chain_kinds.SEND_WORK)
        desk.node.mine()
        desk.step(chain_kinds.WATCH_WORK)
    assert set(OutboundTransaction.objects.values_list("state", flat=True)) == {"confirmed"}
    desk.due()
    single = work.Work(
        "withdrawals.settle", Withdrawal, ("sending", "sent"), advance=SETTLE_WORK.advance, chunk=2
    )
    assert together(*[lambda: void(work.drain(single))] * 3) == []
    desk.finish()
    assert set(Withdrawal.objects.values_list("state", flat=True)) == {"confirmed"}
    for row in Withdrawal.objects.all():
        assert journals(row) == ["hold", "settle"]
    books_hold()


def test_a_move_that_no_withdrawal_may_make_is_a_mistake_of_ours(desk: Desk) -> None:
    row = asked(desk)
    with pytest.raises(ValueError, match="does not go from approved to confirmed"):
        withdrawals_move([row], WithdrawalState.CONFIRMED)
