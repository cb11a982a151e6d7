"""Step 2: reserve. Fee and funds for the whole chunk at once: a hold per slot, or the slot ends with a reason."""

from collections import defaultdict
from uuid import UUID

import orjson

from apps.core import bulk, doorbell, failpoints, work
from apps.fees.services import fees_for
from apps.ledger.domain import AccountKind, hold
from apps.ledger.services import accounts_open_personal, balances_lock, journals_post
from apps.plans.models import Slot, SlotReason, SlotState
from apps.plans.steps.outcomes import Closure, PlanFacts, closure_for_plan, plans_locked, slots_close


def slots_reserve(slots: list[Slot]) -> None:
    """Hold the amounts of locked open slots, all or nothing per slot; rings the batch step.

    Available balances are read under row locks taken in account-id order, so that two chunks of one person
    cannot both spend the same units. Earlier slots of a person come first.
    """
    plans = plans_locked({slot.plan_id for slot in slots})
    closures = []
    candidates = []
    for slot in sorted(slots, key=lambda slot: (slot.scheduled_at, slot.pk)):
        closure = closure_for_plan(slot, plans[slot.plan_id])
        if closure:
            closures.append(closure)
        else:
            candidates.append(slot)
    closures += _price(candidates, plans)
    priced = [slot for slot in candidates if slot.swap_units is not None]
    held, unfunded = _hold(priced, plans)
    failpoints.reach("plans.reserve.held")
    bulk.update(
        "plans_slot",
        [slot.pk for slot in held],
        {
            "fee_units": ("numeric", [slot.fee_units for slot in held]),
            "swap_units": ("numeric", [slot.swap_units for slot in held]),
            "decision": ("jsonb", [orjson.dumps(slot.decision).decode() for slot in held]),
        },
        constants={"state": SlotState.RESERVED.value},
        also=work.STEPPED,
    )
    # Funds were there: that ends a row of misses. Here and not when the buy settles, since that may be later
    # than the next slot's miss, which would then not count.
    bulk.update(
        "plans_plan",
        list({slot.plan_id for slot in held}),
        {},
        also="misses_in_a_row = 0",
        where="t.misses_in_a_row > 0",
    )
    slots_close(closures + unfunded, plans)
    if held:
        doorbell.ring("plans.batch")


def _price(slots: list[Slot], plans: dict[UUID, PlanFacts]) -> list[Closure]:
    """Set fee and swap amount of each slot, one look-up per (asset, tier); closes what the fee leaves too small."""
    groups: dict[tuple[UUID, str], list[Slot]] = defaultdict(list)
    for slot in slots:
        plan = plans[slot.plan_id]
        groups[plan.sold_asset_id, plan.fee_tier].append(slot)
    closures = []
    for (asset_id, tier), members in groups.items():
        fees = fees_for(asset_id=asset_id, tier=tier, amounts=[slot.amount_units for slot in members])
        for slot, fee in zip(members, fees, strict=True):
            swap = slot.amount_units - fee
            facts = {"fee_tier": tier, "fee_units": str(fee)}
            if swap < plans[slot.plan_id].min_trade_units:
                closures.append(Closure(slot, SlotState.SKIPPED, SlotReason.BELOW_MINIMUM, facts))
                continue
            slot.fee_units, slot.swap_units = fee, swap
            slot.decision = {**slot.decision, **facts}
    return closures


def _hold(slots: list[Slot], plans: dict[UUID, PlanFacts]) -> tuple[list[Slot], list[Closure]]:
    """Post the holds of those that can be paid; the others come back as closures."""
    owners: dict[UUID, set[UUID]] = defaultdict(set)
    for slot in slots:
        owners[plans[slot.plan_id].sold_asset_id].add(slot.owner_id)
    available, aside = (
        {
            asset_id: accounts_open_personal(kind=kind, asset_id=asset_id, owner_ids=people)
            for asset_id, people in sorted(owners.items())
        }
        for kind in (AccountKind.AVAILABLE, AccountKind.HELD)
    )
    accounts = [one for side in (available, aside) for by_owner in side.values() for one in by_owner.values()]
    balances = balances_lock(account_ids=accounts)
    held, closures, drafts = [], [], []
    for slot in slots:
        asset_id = plans[slot.plan_id].sold_asset_id
        source = available[asset_id][slot.owner_id]
        balance = balances[source]
        slot.decision = {**slot.decision, "available_units": str(balance)}
        if balance < slot.amount_units:
            closures.append(Closure(slot, SlotState.SKIPPED, SlotReason.INSUFFICIENT_FUNDS))
            continue
        balances[source] = balance - slot.amount_units
        drafts.append(
            hold(
                reference=f"slot:{slot.pk}:hold",
                available_id=source,
                held_id=aside[asset_id][slot.owner_id],
                units=slot.amount_units,
            )
        )
        held.append(slot)
    journals_post(drafts=drafts)
    return held, closures
