"""Each lock of the main job: first the race with the lock off, then gone with it on."""

import threading
from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, transaction

from apps.core import bulk, clock, work
from apps.core.ids import uuid7
from apps.ledger.domain import AccountKey, AccountKind, hold
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import Account
from apps.ledger.services import accounts_open, journals_post
from apps.plans import kinds
from apps.plans.models import Batch, Plan, PlanState, Slot
from apps.plans.services import plan_pause
from apps.plans.steps.opening import slots_open
from tests.plans.support import USDC, Platform, outcomes
from tests.support.races import off_and_on, race

pytestmark = pytest.mark.django_db(transaction=True)


def together(*jobs: Callable[[], None]) -> list[BaseException]:
    """Run the jobs in threads of their own, each with its own connection; answers what they raised."""
    raised: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 — handed to the test
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_without_the_claim_two_workers_open_one_occurrence_and_only_the_constraint_stops_them(
    platform: Platform,
) -> None:
    plan = platform.plan(platform.person(usdc=1_000))
    both_read = threading.Barrier(2)

    def open_unlocked() -> None:
        rows = [Plan.objects.get(pk=plan.pk)]
        both_read.wait()
        with transaction.atomic():
            slots_open(rows)

    raised = together(open_unlocked, open_unlocked)

    assert [type(error) for error in raised] == [IntegrityError]
    assert "plans_slot_once" in str(raised[0])


def test_two_workers_open_each_occurrence_once(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plans = [platform.plan(person) for _ in range(60)]
    small = work.Work("plans.open", Plan, ("active",), advance=slots_open, chunk=7)

    raised = together(*[lambda: void(work.drain(small))] * 3)

    assert raised == []
    assert sorted(Slot.objects.values_list("plan_id", "number")) == sorted((plan.pk, 1) for plan in plans)


def void(_: object) -> None:
    return None


def test_without_the_balance_lock_two_chunks_promise_the_same_money(platform: Platform) -> None:
    """Both see 150 and both hold 100: here the ledger's CHECK is all that stands between."""
    person = platform.person(usdc=150)
    asset = platform.seeded.assets["USDC"].pk
    keys = [AccountKey(kind, asset, person.pk) for kind in (AccountKind.AVAILABLE, AccountKind.HELD)]
    accounts = accounts_open(keys=keys)
    both_read = threading.Barrier(2)

    def hold_unlocked() -> None:
        balance = Account.objects.get(pk=accounts[keys[0]]).balance_units
        both_read.wait()
        assert balance >= 100 * USDC
        draft = hold(
            reference=f"race:{uuid7()}",
            available_id=accounts[keys[0]],
            held_id=accounts[keys[1]],
            units=100 * USDC,
        )
        with transaction.atomic():
            journals_post(drafts=[draft])

    raised = together(hold_unlocked, hold_unlocked)

    assert [type(error) for error in raised] == [InsufficientFunds]


def test_with_the_balance_lock_one_chunk_holds_and_the_other_sees_what_is_left(platform: Platform) -> None:
    person = platform.person(usdc=250)
    for _ in range(8):
        platform.plan(person)
    work.drain(kinds.OPEN)
    single = work.Work("plans.reserve", Slot, ("open",), advance=kinds.RESERVE.advance, chunk=1)

    raised = together(*[lambda: void(work.drain(single))] * 4)

    assert raised == []
    states = list(Slot.objects.values_list("state", "reason"))
    assert sorted(states) == [("reserved", "")] * 2 + [("skipped", "insufficient_funds")] * 6
    assert platform.balance(person, "USDC") == 50 * USDC
    assert platform.balance(person, "USDC", AccountKind.HELD) == 200 * USDC


def test_without_the_plan_lock_a_miss_is_forgotten(platform: Platform) -> None:
    plan = platform.plan(platform.person())
    both_read = threading.Barrier(2)

    def count_unlocked() -> None:
        seen = Plan.objects.get(pk=plan.pk).misses_in_a_row
        both_read.wait()
        Plan.objects.filter(pk=plan.pk).update(misses_in_a_row=seen + 1)

    assert together(count_unlocked, count_unlocked) == []
    plan.refresh_from_db()
    assert plan.misses_in_a_row == 1


def test_with_the_plan_lock_every_miss_counts_and_the_plan_pauses_once(platform: Platform) -> None:
    now = clock.now()
    count = 6
    plan = platform.plan(platform.person(), next_number=count + 1, committed_units=count * 100 * USDC)
    bulk.insert(
        "plans_slot",
        {
            "id": [uuid7() for _ in range(count)],
            "plan_id": [plan.pk] * count,
            "number": list(range(1, count + 1)),
            "owner_id": [plan.owner_id] * count,
            "market_id": [plan.market_id] * count,
            "scheduled_at": [now] * count,
            "state": ["open"] * count,
            "amount_units": [plan.amount_units] * count,
            "max_slippage_bps": [100] * count,
            "decision": ["{}"] * count,
            "run_after": [now] * count,
            "created_at": [now] * count,
        },
    )
    single = work.Work("plans.reserve", Slot, ("open",), advance=kinds.RESERVE.advance, chunk=1)

    raised = together(*[lambda: void(work.drain(single))] * 3)

    assert raised == []
    plan.refresh_from_db()
    reasons = sorted(Slot.objects.values_list("reason", flat=True))
    # After the third miss the plan is paused; what was open by then closes for that reason.
    assert reasons == ["insufficient_funds"] * 3 + ["plan_paused"] * 3
    assert (plan.state, plan.misses_in_a_row) == ("paused", 3)


@off_and_on
def test_whoever_pauses_is_answered_before_the_swap_is_ordered_and_then_it_is_not_or_after(
    platform: Platform, locked: bool
) -> None:
    platform.plan(platform.person(usdc=1_000))
    platform.settle()  # the router is approved now
    plan = platform.plan(platform.person(usdc=1_000))
    work.drain(kinds.OPEN)
    work.drain(kinds.RESERVE)
    work.drain(kinds.BATCH)

    def pause() -> str:
        plan_pause(owner_id=plan.owner_id, plan_id=plan.pk)
        return Batch.objects.values_list("state", flat=True).latest("created_at")

    _, when_paused = race(
        lambda: work.drain(kinds.PRICE, budget_seconds=0),
        pause,
        lock=r'SELECT "plans_plan"\."id" AS "pk" FROM "plans_plan" WHERE',
        read=r'FROM "plans_plan" INNER JOIN "providers_market"',
        locked=locked,
    )

    plan.refresh_from_db()
    assert plan.state == PlanState.PAUSED
    # Without the lock the person is told that nothing more is bought, and the swap is ordered after that.
    assert when_paused == ("sending" if locked else "pricing")
    assert Batch.objects.latest("created_at").state == "sending"
    platform.settle()
    assert outcomes(plan) == [(1, "settled", "filled")]
