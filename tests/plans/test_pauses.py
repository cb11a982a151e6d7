"""What must not be bought just now ends with its reason, and what is not collected yet waits, not for ever."""

import pytest

from apps.accounts.services import user_freeze
from apps.core import clock, work
from apps.core.errors import NotFound
from apps.deposits.models import Sweep
from apps.ledger.domain import AccountKind
from apps.plans import kinds
from apps.plans.explain import slot_why
from apps.plans.models import Batch, Plan, PlanState, Slot
from apps.plans.selectors import SlotRecord
from apps.treasury.models import Activity
from apps.treasury.pauses import pause_lift, pause_set
from tests.deposits.collecting import Place, place
from tests.plans.support import STEPS, USDC, Platform, outcomes

__all__ = ["place"]

pytestmark = pytest.mark.django_db(transaction=True)


def pause(platform: Platform, code: str | None, activity: Activity = Activity.BUYING) -> None:
    asset_id = platform.seeded.assets[code].pk if code else None
    pause_set(activities=[activity], asset_id=asset_id, reason="looking into it", actor="op")


@pytest.mark.parametrize("code", ["USDC", "WETH", None])
def test_due_slot_of_what_is_paused_is_skipped_and_is_no_miss(platform: Platform, code: str | None) -> None:
    plan = platform.plan(platform.person(usdc=1_000))
    Plan.objects.update(misses_in_a_row=2)
    pause(platform, code)
    platform.settle()
    assert outcomes(plan) == [(1, "skipped", "paused")]
    plan.refresh_from_db()
    assert (plan.state, plan.misses_in_a_row, plan.committed_units) == (PlanState.ACTIVE, 2, 0)
    assert platform.balance(plan.owner, "USDC", AccountKind.HELD) == 0
    assert Slot.objects.get().decision["pause"] == "looking into it"


@pytest.mark.parametrize("what", ["another asset", "withdrawing"])
def test_other_pauses_stop_no_buy(platform: Platform, what: str) -> None:
    plan = platform.plan(platform.person(usdc=1_000))
    if what == "another asset":
        pause(platform, "WBTC")
    else:
        pause(platform, "USDC", Activity.WITHDRAWING)
    platform.settle()
    assert outcomes(plan) == [(1, "settled", "filled")]


@pytest.mark.parametrize("step", [kinds.BATCH, kinds.PRICE])
def test_pause_between_two_steps_ends_the_slot_and_gives_the_hold_back(
    platform: Platform, step: work.Work[Slot]
) -> None:
    plan = platform.plan(platform.person(usdc=1_000))
    for one in STEPS[: STEPS.index(step)]:
        work.drain(one)
    assert platform.balance(plan.owner, "USDC", AccountKind.HELD) == 100 * USDC
    pause(platform, "USDC")
    platform.settle()
    assert outcomes(plan) == [(1, "skipped", "paused")]
    assert platform.balance(plan.owner, "USDC") == 1_000 * USDC


def test_frozen_persons_slots_are_skipped_and_others_buy(platform: Platform) -> None:
    frozen, free = platform.person(usdc=1_000), platform.person(usdc=1_000)
    plans = [platform.plan(frozen), platform.plan(free)]
    user_freeze(user_id=frozen.pk, reason="a deposit was taken back")
    platform.settle()
    assert [outcomes(plan) for plan in plans] == [
        [(1, "skipped", "account_frozen")],
        [(1, "settled", "filled")],
    ]
    plans[0].refresh_from_db()
    assert (plans[0].state, plans[0].misses_in_a_row) == (PlanState.ACTIVE, 0)


def test_after_a_pause_is_lifted_the_next_slot_buys(platform: Platform) -> None:
    plan = platform.plan(platform.person(usdc=1_000))
    pause(platform, None)
    platform.settle()
    from apps.treasury.models import Pause

    pause_lift(pause_id=Pause.objects.get().pk, actor="op", note="well again")
    Plan.objects.update(run_after=clock.now())
    platform.settle()
    assert outcomes(plan)[-1][1:] == ("settled", "filled")
    with pytest.raises(NotFound):
        pause_lift(pause_id=Pause.objects.get().pk, actor="op", note="twice")


def depositor(place: Place, *, usdc: int) -> tuple[Platform, Plan]:
    """Somebody whose money lies at a deposit address, and a plan that is due."""
    platform = Platform(place.seeded, place.node, place.maker, place.travel)
    at = place.address()
    place.deposit(at, "USDC", usdc * USDC)
    place.watch()
    plan = platform.plan(at.user, usdc=100)
    work.drain(kinds.OPEN)
    return platform, plan


def rounds(place: Place, platform: Platform, *, until: str) -> list[tuple[str, str]]:
    """Everything works on, a block a round; the batch's states and reasons, in order."""
    seen: list[tuple[str, str]] = []
    for _ in range(40):
        for step in STEPS[1:]:
            place.due()
            Batch.objects.update(run_after=clock.now())
            work.drain(step, budget_seconds=0)
        batch = Batch.objects.get()
        if not seen or seen[-1] != (batch.state, batch.reason):
            seen.append((batch.state, batch.reason))
        if batch.state == until:
            return seen
        place.advance()
    raise AssertionError(f"{seen} {batch.last_error} {list(Sweep.objects.values('state', 'last_error'))}")


def test_batch_waits_until_what_it_sells_was_collected(place: Place) -> None:
    # given a person whose money nobody has collected, since nobody planned a sweep
    platform, plan = depositor(place, usdc=1_000)
    # when
    seen = rounds(place, platform, until="settled")
    # then it waited visibly, had it collected, and bought
    assert seen[0] == ("pricing", "awaiting_collection")
    assert seen[-1] == ("settled", "")
    assert outcomes(plan) == [(1, "settled", "filled")]
    assert list(Sweep.objects.values_list("state", flat=True)) == ["done"]
    assert "awaiting_collection_since" not in Batch.objects.get().decision
    place.finish()
    place.holds()


def test_wait_for_collection_ends_and_gives_the_holds_back(place: Place) -> None:
    # given a collecting that cannot work: nobody may sign for deposit wallets
    from apps.chain.models import SignerRule

    SignerRule.objects.filter(wallet_role="deposit").delete()
    platform, plan = depositor(place, usdc=1_000)
    for step in STEPS[1:]:
        work.drain(step, budget_seconds=0)
    assert Batch.objects.get().reason == "awaiting_collection"
    # when the time is over
    place.travel(seconds=1_801)
    place.maker.refresh_feeds()
    Batch.objects.update(run_after=clock.now())
    work.drain(kinds.PRICE, budget_seconds=0)
    # then
    batch = Batch.objects.get()
    assert (batch.state, batch.reason) == ("closed", "awaiting_collection_timeout")
    assert outcomes(plan) == [(1, "failed", "awaiting_collection_timeout")]
    assert platform.balance(plan.owner, "USDC") == 1_000 * USDC
    assert Slot.objects.get().decision["missing_units"].isdigit()
    plan.refresh_from_db()
    assert (plan.state, plan.misses_in_a_row) == (PlanState.ACTIVE, 0)


def test_pause_ends_the_wait_at_once(place: Place) -> None:
    platform, plan = depositor(place, usdc=1_000)
    for step in STEPS[1:]:
        work.drain(step, budget_seconds=0)
    assert Batch.objects.get().reason == "awaiting_collection"
    record = SlotRecord(Slot.objects.select_related("batch", "market__sold_asset").get(), [])
    assert slot_why(record)[-1].code == "awaiting_collection"
    pause(platform, "USDC")
    Batch.objects.update(run_after=clock.now())
    work.drain(kinds.PRICE, budget_seconds=0)
    assert outcomes(plan) == [(1, "skipped", "paused")]
    assert Batch.objects.get().state == "closed"


def test_two_batches_do_not_sell_the_same_units_twice(platform: Platform) -> None:
    # given two batches whose people together have more than lies in the collecting wallet
    first, second = platform.person(usdc=100), platform.person(usdc=100)
    platform.plan(first, buy="WETH"), platform.plan(second, buy="WBTC")
    from apps.ledger.domain import AccountKey, JournalDraft, Posting
    from apps.ledger.services import accounts_open, journals_post
    from apps.treasury.domain import DEPOSITS_REF

    usdc = platform.seeded.assets["USDC"].pk
    hot = AccountKey(AccountKind.CUSTODY, usdc, ref=platform.seeded.wallet.address)
    rest = AccountKey(AccountKind.CUSTODY, usdc, ref=DEPOSITS_REF)
    accounts = accounts_open(keys=[hot, rest])
    moved = 60 * USDC
    journals_post(
        drafts=[
            JournalDraft("test", "test", (Posting(accounts[hot], moved), Posting(accounts[rest], -moved)))
        ]
    )
    # when both are priced
    for step in (*STEPS[:4], STEPS[3]):
        work.drain(step)
    platform.work_until(
        lambda: "settled" in Batch.objects.values_list("state", flat=True),
    )
    # then one was sent, and the other waits
    assert sorted(Batch.objects.values_list("state", "reason")) == [
        ("pricing", "awaiting_collection"),
        ("settled", ""),
    ]
