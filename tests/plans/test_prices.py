"""What a price may be, and what becomes of a swap that does not get it, on a real chain."""

from decimal import Decimal
from typing import Any

import pytest

from apps.chain.models import OutboundTransaction, SignerRule
from apps.core import work
from apps.fees.services import fee_schedule_set
from apps.ledger.domain import AccountKind
from apps.plans import kinds
from apps.plans.models import Batch, Slot
from tests.plans.support import STEPS, USDC, Platform, books_hold, outcomes

pytestmark = pytest.mark.django_db(transaction=True)


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
