"""Step 2: reserve. Fee and funds for the whole chunk at once: a hold per slot, or the slot ends with a reason."""

from collections import defaultdict
from typing import NamedTuple
from uuid import UUID

import orjson

from apps.core import bulk, doorbell, failpoints, work
from apps.fees.services import fees_for
from apps.ledger.domain import AccountKind, hold
from apps.ledger.services import accounts_open_personal, balances_lock, journals_post
from apps.plans.models import Slot, SlotReason, SlotState
from apps.plans.steps.outcomes import Closure, PlanFacts, closure_for_plan, plans_locked, slots_close


class _Wanted(NamedTuple):
    """A slot that may buy, its plan, and what its decision record gains."""

    slot: Slot
    plan: PlanFacts
    facts: dict[str, str]


def slots_reserve(slots: list[Slot]) -> None:
    """Hold the amounts of locked open slots, all or nothing per slot; rings the batch step.

    Available balances are read under row locks taken in account-id order, so that two chunks of one person
    cannot both spend the same units. Earlier slots of a person come first.
    """
    plans = plans_locked({slot.plan_id for slot in slots})
    closures = []
    candidates = []
    for slot in sorted(slots, key=lambda slot: (slot.scheduled_at, slot.pk)):
        plan = plans[slot.plan_id]
        closure = closure_for_plan(slot, plan)
        if closure:
            closures.append(closure)
        else:
            candidates.append(_Wanted(slot, plan, {}))
    closures += _price(candidates)
    held, unfunded = _hold([one for one in candidates if one.slot.swap_units is not None])
    failpoints.reach("plans.reserve.held")
    bulk.update(
        "plans_slot",
        [one.slot.pk for one in held],
        {
            "fee_units": ("numeric", [one.slot.fee_units for one in held]),
            "swap_units": ("numeric", [one.slot.swap_units for one in held]),
            "decision": ("jsonb", [orjson.dumps(one.facts).decode() for one in held]),
        },
        operators={"decision": "||"},
        constants={"state": SlotState.RESERVED.value},
        also=work.STEPPED,
    )
    # Funds were there: that ends a row of misses. Here and not when the buy settles, since that may be later
    # than the next slot's miss, which would then not count.
    bulk.update(
        "plans_plan",
        list({one.slot.plan_id for one in held if one.plan.misses_in_a_row}),
        {},
        also="misses_in_a_row = 0",
    )
    slots_close(closures + unfunded, plans)
    if held:
        doorbell.ring("plans.batch")


def _price(wanted: list[_Wanted]) -> list[Closure]:
    """Set fee and swap amount of each slot, one look-up per (asset, tier); closes what the fee leaves too small."""
    groups: dict[tuple[UUID, str], list[_Wanted]] = defaultdict(list)
    for one in wanted:
        groups[one.plan.sold_asset_id, one.plan.fee_tier].append(one)
    closures = []
    for (asset_id, tier), members in groups.items():
        fees = fees_for(asset_id=asset_id, tier=tier, amounts=[one.slot.amount_units for one in members])
        for (slot, plan, facts), fee in zip(members, fees, strict=True):
            swap = slot.amount_units - fee
            facts.update(fee_tier=tier, fee_units=str(fee))
            if swap < plan.min_trade_units:
                closures.append(Closure(slot, SlotState.SKIPPED, SlotReason.BELOW_MINIMUM, facts))
                continue
            slot.fee_units, slot.swap_units = fee, swap
    return closures


def _hold(wanted: list[_Wanted]) -> tuple[list[_Wanted], list[Closure]]:
    """Post the holds of those that can be paid; the others come back as closures."""
    owners: dict[UUID, set[UUID]] = defaultdict(set)
    for slot, plan, _ in wanted:
        owners[plan.sold_asset_id].add(slot.owner_id)
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
    for one in wanted:
        slot, asset_id = one.slot, one.plan.sold_asset_id
        source = available[asset_id][slot.owner_id]
        balance = balances[source]
        one.facts["available_units"] = str(balance)
        if balance < slot.amount_units:
            closures.append(Closure(slot, SlotState.SKIPPED, SlotReason.INSUFFICIENT_FUNDS, one.facts))
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
        held.append(one)
    journals_post(drafts=drafts)
    return held, closures
