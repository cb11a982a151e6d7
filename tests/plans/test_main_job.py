"""The main job on a real chain with the real Uniswap contracts, its tasks called by hand."""

from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.chain.models import OutboundTransaction
from apps.core import clock, work
from apps.events.models import Event
from apps.ledger.domain import AccountKind
from apps.ledger.models import Entry, Journal
from apps.plans import kinds
from apps.plans.models import Batch, Slot
from apps.sandbox.runtime.offset import CLOCK_FILE
from tests.plans.support import STEPS, USDC, Platform, books_hold, outcomes

pytestmark = pytest.mark.django_db(transaction=True)


def test_due_plans_of_one_market_buy_in_one_swap_and_share_it_to_the_unit(platform: Platform) -> None:
    people = [platform.person(usdc=1_000) for _ in range(3)]
    plans = [platform.plan(person, usdc=100 + n) for n, person in enumerate(people)]

    platform.settle()

    batch = Batch.objects.get()
    slots = list(Slot.objects.order_by("amount_units"))
    assert (batch.state, batch.slot_count) == ("settled", 3)
    assert batch.transaction is not None
    assert batch.transaction.purpose == "swap"
    assert [outcomes(plan) for plan in plans] == [[(1, "settled", "filled")]] * 3
    # 0.5 % of 100, 101 and 102 USDC stays as fee; the rest was swapped, all of it.
    assert [s.fee_units for s in slots] == [500_000, 505_000, 510_000]
    assert batch.filled_in_units == sum(s.swap_units for s in slots) == 301_485_000
    assert sum(s.received_units for s in slots) == batch.filled_out_units
    for slot in slots:
        exact = batch.filled_out_units * slot.swap_units / 301_485_000
        assert abs(slot.received_units - exact) < 2
    assert [platform.balance(p, "USDC") for p in people] == [900 * USDC, 899 * USDC, 898 * USDC]
    assert [platform.balance(p, "USDC", AccountKind.HELD) for p in people] == [0, 0, 0]
    assert [platform.balance(p, "WETH") for p in people] == [s.received_units for s in slots]
    assert platform.platform_balance(AccountKind.FEES, "USDC") == 1_515_000
    assert platform.maker.balance(symbol="WETH", of=platform.seeded.wallet.address) == batch.filled_out_units
    books_hold()


def test_each_market_has_its_own_swap(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    for asset in ("WETH", "WBTC", "LINK"):
        platform.plan(person, buy=asset)
        platform.plan(person, buy=asset)

    platform.settle()

    assert sorted(Batch.objects.values_list("slot_count", flat=True)) == [2, 2, 2]
    assert OutboundTransaction.objects.filter(purpose="swap", state="confirmed").count() == 3
    books_hold()


def test_working_again_on_what_is_settled_changes_nothing(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    platform.plan(person)
    platform.settle()
    books = (Journal.objects.count(), Entry.objects.count(), Event.objects.count(), Slot.objects.count())

    for _ in range(5):
        for step in STEPS:
            work.drain(step, budget_seconds=1)

    after = (Journal.objects.count(), Entry.objects.count(), Event.objects.count(), Slot.objects.count())
    assert after == books
    assert platform.balance(person, "USDC") == 900 * USDC


def test_a_slot_without_funds_is_skipped_whole_and_the_third_miss_pauses_the_plan(platform: Platform) -> None:
    person = platform.person(usdc=150)
    plan = platform.plan(person)
    for _ in range(4):
        platform.settle()
        platform.travel(seconds=86_400)
        platform.maker.refresh_feeds()
    work.drain(kinds.OPEN)

    assert outcomes(plan) == [
        (1, "settled", "filled"),
        (2, "skipped", "insufficient_funds"),
        (3, "skipped", "insufficient_funds"),
        (4, "skipped", "insufficient_funds"),
    ]
    plan.refresh_from_db()
    assert (plan.state, plan.state_reason, plan.misses_in_a_row) == ("paused", "insufficient_funds", 3)
    assert platform.balance(person, "USDC") == 50 * USDC
    told = Event.objects.filter(subject_id=person.pk).order_by("sequence").values_list("topic", flat=True)
    assert list(told) == [
        "balance.credited",
        "execution.settled",
        "execution.skipped",
        "execution.skipped",
        "execution.skipped",
        "plan.paused",
    ]
    misses = Event.objects.filter(topic="execution.skipped").order_by("sequence")
    assert [event.payload["misses_in_a_row"] for event in misses] == [1, 2, 3]
    books_hold()


def test_a_buy_ends_the_row_of_misses(platform: Platform) -> None:
    person = platform.person()
    plan = platform.plan(person)
    platform.settle()
    platform.fund(person, usdc=100)
    platform.travel(seconds=86_400)
    platform.maker.refresh_feeds()

    platform.settle()

    plan.refresh_from_db()
    assert outcomes(plan) == [(1, "skipped", "insufficient_funds"), (2, "settled", "filled")]
    assert (plan.state, plan.misses_in_a_row) == ("active", 0)


def test_a_buy_that_settles_after_a_later_miss_does_not_wipe_it(platform: Platform) -> None:
    person = platform.person(usdc=100)
    plan = platform.plan(person, interval=1)
    work.drain(kinds.OPEN)
    work.drain(kinds.RESERVE)
    for _ in range(2):
        platform.travel(seconds=3_600)
        platform.maker.refresh_feeds()
        work.drain(kinds.OPEN)
        work.drain(kinds.RESERVE)

    platform.settle()

    plan.refresh_from_db()
    assert [outcome[1:] for outcome in outcomes(plan)] == [
        ("settled", "filled"),
        ("skipped", "insufficient_funds"),
        ("skipped", "insufficient_funds"),
    ]
    assert plan.misses_in_a_row == 2


def test_two_plans_of_one_person_cannot_spend_the_same_money(platform: Platform) -> None:
    person = platform.person(usdc=150)
    first = platform.plan(person, name="first")
    second = platform.plan(person, name="second")

    platform.settle()

    reasons = sorted(outcomes(first) + outcomes(second), key=lambda outcome: outcome[1])
    assert reasons == [(1, "settled", "filled"), (1, "skipped", "insufficient_funds")]
    assert platform.balance(person, "USDC") == 50 * USDC


def test_what_was_missed_is_bought_once_and_the_rest_recorded(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person, interval=1)
    platform.travel(seconds=5 * 3_600 + 60)
    platform.maker.refresh_feeds()

    platform.settle()

    assert outcomes(plan) == [
        (1, "skipped", "missed"),
        (2, "skipped", "missed"),
        (3, "skipped", "missed"),
        (4, "skipped", "missed"),
        (5, "skipped", "missed"),
        (6, "settled", "filled"),
    ]
    plan.refresh_from_db()
    assert plan.run_after > clock.now()
    books_hold()


def test_a_clock_that_steps_back_opens_nothing_again(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person)
    platform.settle()
    clock_file = settings.SANDBOX_DIR / CLOCK_FILE
    clock_file.write_text(str(int(clock_file.read_text()) - 3_600))

    work.drain(kinds.OPEN)

    assert outcomes(plan) == [(1, "settled", "filled")]


@pytest.mark.parametrize("step", ["open", "reserve", "batch"])
def test_a_step_costs_the_same_statements_for_few_and_for_many(platform: Platform, step: str) -> None:
    order: list[work.Work[Any]] = [kinds.OPEN, kinds.RESERVE, kinds.BATCH]
    position = ["open", "reserve", "batch"].index(step)

    def cost(plans: int) -> int:
        for _ in range(plans):
            platform.plan(platform.person(usdc=200))
        for earlier in order[:position]:
            work.drain(earlier)
        claim = work.claim_due(order[position])
        with CaptureQueriesContext(
            connection,
        ) as queries:
            work._work_on(claim)
        assert len(claim.ids) == plans
        for later in order[position + 1 :]:
            work.drain(later)
        return len(queries)

    warm, few, many = cost(1), cost(2), cost(40)

    assert few == many
    assert warm <= few + 3


def test_each_step_adds_to_the_record_of_the_decision(platform: Platform) -> None:
    platform.plan(platform.person(usdc=1_000))

    platform.settle()

    slot = Slot.objects.get()
    assert slot.decision == {
        "plan_version": 1,
        "fee_tier": "standard",
        "fee_units": str(slot.fee_units),
        "available_units": str(1_000 * USDC),
    }
