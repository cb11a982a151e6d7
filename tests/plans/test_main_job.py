"""The main job on a real chain with the real Uniswap contracts, its tasks called by hand."""

from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.chain.models import OutboundTransaction, SignerRule
from apps.core import clock, invariants, work
from apps.events.models import Event
from apps.fees.services import fee_schedule_set
from apps.ledger.domain import AccountKind
from apps.ledger.models import Entry, Journal
from apps.plans import kinds
from apps.plans.models import Batch, Plan, Slot
from apps.providers.services import market_enable
from apps.sandbox.runtime.offset import CLOCK_FILE
from apps.treasury.services import gas_book
from tests.plans.support import STEPS, USDC, Platform, outcomes

pytestmark = pytest.mark.django_db(transaction=True)


def books_hold() -> None:
    while gas_book().booked:
        pass
    broken = {v.name: v.violations for v in invariants.run_all() if not v.holds}
    assert broken == {}


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


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"price_max_units": 2_400 * USDC}, "price_above_limit"),
        ({"price_min_units": 2_600 * USDC}, "price_below_limit"),
        ({"price_min_units": 2_400 * USDC, "price_max_units": 2_600 * USDC}, None),
    ],
)
def test_price_limits_decide_by_the_reference_price(
    platform: Platform, limits: dict[str, Any], reason: str | None
) -> None:
    person = platform.person(usdc=1_000)
    platform.maker.move_asset(symbol="WETH", price=Decimal(2_500))
    plan = platform.plan(person, **limits)

    platform.settle()

    assert outcomes(plan) == [(1, "skipped", reason) if reason else (1, "settled", "filled")]
    assert platform.balance(person, "USDC", AccountKind.HELD) == 0
    assert platform.balance(person, "USDC") == (1_000 if reason else 900) * USDC
    books_hold()


def test_a_limit_blocks_one_plan_and_lets_its_neighbours_buy(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    blocked = platform.plan(person, price_max_units=1_000 * USDC)
    free = platform.plan(person)

    platform.settle()

    assert outcomes(blocked) == [(1, "skipped", "price_above_limit")]
    assert outcomes(free) == [(1, "settled", "filled")]
    assert Batch.objects.get().slot_count == 1
    slot = blocked.slots.get()
    assert slot.decision["reference"]["numerator"].isdigit()


def test_pools_away_from_the_reference_close_the_slot_with_price_guard(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person)
    # The pools say 2,750 while the feed still says 2,500: 9 % worse than the reference.
    feed = platform.maker.feed_price(symbol="WETH")
    platform.maker.move_asset(symbol="WETH", price=feed * Decimal("1.10"))
    platform.maker.push_price(symbol="WETH", price=feed)

    platform.settle()

    assert outcomes(plan) == [(1, "skipped", "price_guard")]
    slot = plan.slots.get()
    assert slot.decision["deviation_bps"] > 200
    assert platform.balance(person, "USDC") == 1_000 * USDC
    assert not OutboundTransaction.objects.filter(purpose="swap").exists()
    books_hold()


def test_a_strict_cap_leaves_the_swap_before_it_is_sent_and_nobodys_cap_is_widened(
    platform: Platform,
) -> None:
    person = platform.person(usdc=1_000)
    strict = platform.plan(person, max_slippage_bps=1)
    loose = platform.plan(person, max_slippage_bps=150)

    platform.settle()

    assert outcomes(strict) == [(1, "skipped", "price_guard")]
    assert outcomes(loose) == [(1, "settled", "filled")]
    batch = Batch.objects.get()
    quote = batch.decision["quote"]["reference"]
    floor = 99_500_000 * int(quote["numerator"]) * 9_850
    assert batch.min_out_units == -(-floor // (int(quote["denominator"]) * 10_000))


def test_what_the_fee_leaves_below_the_minimum_trade_is_not_bought(platform: Platform) -> None:
    fee_schedule_set(tier="standard", bps=50, asset_id=platform.seeded.assets["USDC"].pk, min_units=5 * USDC)
    platform.travel(seconds=1)
    person = platform.person(usdc=100)
    plan = platform.plan(person, usdc=5)

    platform.settle()

    assert outcomes(plan) == [(1, "skipped", "below_minimum")]
    assert platform.balance(person, "USDC") == 100 * USDC


@pytest.mark.parametrize("after", ["open", "reserve", "batch"])
@pytest.mark.parametrize(("state", "reason"), [("paused", "plan_paused"), ("cancelled", "plan_cancelled")])
def test_pausing_stops_the_buy_at_any_step_before_it_is_sent(
    platform: Platform, after: str, state: str, reason: str
) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person)
    steps: list[work.Work[Any]] = [kinds.OPEN, kinds.RESERVE, kinds.BATCH]
    for step in steps[: ["open", "reserve", "batch"].index(after) + 1]:
        work.drain(step)

    Plan.objects.filter(pk=plan.pk).update(state=state)
    platform.settle()

    assert outcomes(plan) == [(1, "skipped", reason)]
    assert platform.balance(person, "USDC") == 1_000 * USDC
    assert not OutboundTransaction.objects.filter(purpose="swap").exists()
    books_hold()


def test_a_market_that_is_switched_off_closes_its_slots(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person)
    market_enable(market_ids=[plan.market_id], enabled=False)

    platform.settle()

    assert outcomes(plan) == [(1, "skipped", "market_disabled")]


def test_the_last_slot_of_a_budget_takes_the_residue_and_the_plan_completes(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person, usdc=40, total_budget_units=100 * USDC + 500_000)
    for _ in range(3):
        platform.settle()
        platform.travel(seconds=86_400)
        platform.maker.refresh_feeds()
    work.drain(kinds.OPEN)

    # 40, then 40, and 20.5 is left. A rest below the market's minimum would have gone with the slot before.
    assert list(plan.slots.order_by("number").values_list("amount_units", flat=True)) == [
        40_000_000,
        40_000_000,
        20_500_000,
    ]
    plan.refresh_from_db()
    assert (plan.state, plan.state_reason) == ("completed", "budget_spent")
    assert plan.committed_units == plan.total_budget_units
    assert platform.balance(person, "USDC") == 1_000 * USDC - 100_500_000
    books_hold()


def test_a_rest_too_small_to_trade_goes_with_the_slot_before_it(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person, usdc=50, total_budget_units=100 * USDC + 500_000)
    platform.settle()
    platform.travel(seconds=86_400)
    platform.maker.refresh_feeds()
    platform.settle()

    assert list(plan.slots.order_by("number").values_list("amount_units", flat=True)) == [
        50_000_000,
        50_500_000,
    ]


def test_a_skipped_slot_gives_its_amount_back_to_the_budget(platform: Platform) -> None:
    person = platform.person()
    plan = platform.plan(person, total_budget_units=100 * USDC)
    platform.settle()

    plan.refresh_from_db()
    assert (plan.committed_units, plan.state) == (0, "active")
    platform.fund(person, usdc=100)
    platform.travel(seconds=86_400)
    platform.maker.refresh_feeds()
    platform.settle()

    plan.refresh_from_db()
    assert outcomes(plan) == [(1, "skipped", "insufficient_funds"), (2, "settled", "filled")]
    assert (plan.state, plan.state_reason) == ("completed", "budget_spent")


def test_the_schedules_end_completes_the_plan_while_its_last_slot_still_buys(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person, max_runs=1)

    platform.settle()

    plan.refresh_from_db()
    assert (plan.state, plan.state_reason) == ("completed", "schedule_ended")
    assert outcomes(plan) == [(1, "settled", "filled")]


def test_a_swap_that_reverts_is_quoted_anew_and_its_gas_is_booked(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person)
    platform.work_until(lambda: Batch.objects.filter(state="sending").exists())
    # Between quote and block the market runs away: the floor holds on chain, the swap reverts.
    feed = platform.maker.feed_price(symbol="WETH")
    platform.maker.move_asset(symbol="WETH", price=feed * Decimal("1.10"))

    platform.settle()

    swaps = list(OutboundTransaction.objects.filter(purpose="swap").order_by("created_at"))
    assert [swap.state for swap in swaps] == ["reverted", "confirmed"]
    assert outcomes(plan) == [(1, "settled", "filled")]
    batch = Batch.objects.get()
    assert (batch.try_number, batch.decision["tries"][0]["outcome"]) == (2, "reverted")
    books_hold()
    spent = sum(tx.gas_cost_units for tx in OutboundTransaction.objects.all())
    assert platform.platform_balance(AccountKind.GAS, "ETH") == -spent
    assert swaps[0].gas_cost_units > 0


def test_a_swap_that_always_reverts_ends_its_slots_and_frees_the_funds(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person)
    feed = platform.maker.feed_price(symbol="WETH")
    seen: set[Any] = set()

    def spoil() -> bool:
        sending = Batch.objects.filter(state="sending").exclude(transaction_id__in=seen).first()
        if sending is not None:
            seen.add(sending.transaction_id)
            platform.maker.move_asset(symbol="WETH", price=feed * Decimal("1.1") ** len(seen))
        return not Slot.objects.filter(closed_at__isnull=True).exists()

    work.drain(kinds.OPEN)
    platform.work_until(spoil)

    assert outcomes(plan) == [(1, "failed", "swap_reverted")]
    assert len(seen) == 3
    assert platform.balance(person, "USDC") == 1_000 * USDC
    assert platform.balance(person, "USDC", AccountKind.HELD) == 0
    books_hold()


def test_a_swap_that_the_signer_refuses_ends_its_slots(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan = platform.plan(person)
    SignerRule.objects.exclude(signature__startswith="approve").delete()

    platform.settle()

    assert outcomes(plan) == [(1, "failed", "transaction_refused")]
    assert platform.balance(person, "USDC") == 1_000 * USDC
    books_hold()


def test_a_price_that_cannot_be_had_ends_the_slots_after_the_last_try(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    platform.travel(seconds=10 * 86_400)  # the feeds are stale now, and stay so
    plan = platform.plan(person)

    for _ in range(kinds.PRICE.max_attempts):
        for step in STEPS:
            work.drain(step, budget_seconds=5)
        platform.travel(seconds=600)

    assert outcomes(plan) == [(1, "failed", "no_quote")]
    assert "stale" in plan.slots.get().decision["error"] or "old" in plan.slots.get().decision["error"]
    assert platform.balance(person, "USDC") == 1_000 * USDC
    books_hold()


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
