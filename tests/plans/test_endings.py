"""How plans end: stopped by a person or an operator, out of budget, past their schedule."""

from typing import Any

import pytest

from apps.chain.models import OutboundTransaction
from apps.core import work
from apps.plans import kinds
from apps.plans.models import Plan
from apps.providers.services import market_enable
from tests.plans.support import USDC, Platform, books_hold, outcomes

pytestmark = pytest.mark.django_db(transaction=True)


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
