"""How a slot ends without a buy: its hold goes back, its plan is told, an event is written. All set-based."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db.models import F, Q, QuerySet

from apps.core import bulk, clock, work
from apps.events.services import EventDraft, events_publish
from apps.ledger.domain import AccountKey, AccountKind, release
from apps.ledger.services import accounts_open, journals_post
from apps.plans.models import Plan, PlanState, Slot, SlotReason, SlotState
from apps.treasury.models import Activity
from apps.treasury.pauses import paused_read

# After this many misses in a row for want of funds a plan pauses (design.md, “Funds”).
MISSES_BEFORE_PAUSE = 3


@dataclass(frozen=True)
class Closure:
    """A slot that ends unbought: why, and the facts that belong in its decision record."""

    slot: Slot
    state: SlotState
    reason: SlotReason
    facts: dict[str, Any] = field(default_factory=dict)


class PlanFacts(NamedTuple):
    """What a step needs to know of a slot's plan, read once per chunk."""

    state: str
    name: str
    fee_tier: str
    sold_asset_id: UUID
    bought_asset_id: UUID
    market_enabled: bool
    min_trade_units: int
    owner_frozen_at: datetime | None
    misses_in_a_row: int
    has_budget: bool
    # Why the platform does not buy this just now; empty when it does.
    paused: str


def plans_locked(plan_ids: set[UUID]) -> dict[UUID, PlanFacts]:
    """Lock plans in id order and read what the steps need, and what is paused: two queries.

    Steps lock slots first, then plans, then ledger accounts, then event heads; the API locks one plan only.
    """
    return _facts(Plan.objects.select_for_update(of=("self",)).filter(pk__any_of=plan_ids).order_by("pk"))


def plans_lock(plan_ids: set[UUID]) -> None:
    """Lock plans in id order without reading them: none of them stops until the transaction ends."""
    list(Plan.objects.select_for_update().filter(pk__any_of=plan_ids).order_by("pk").values_list("pk"))


def plans_stopped_locked(plan_ids: set[UUID]) -> dict[UUID, PlanFacts]:
    """Those of the plans for which nothing may be bought now, locked; the others are neither locked nor read.

    Unless they are locked already (`plans_lock`), one that stops right afterwards is not among them.
    """
    paused = paused_read(activity=Activity.BUYING)
    stopped = Q(state__in=[PlanState.PAUSED, PlanState.CANCELLED]) | Q(market__enabled=False)
    stopped |= Q(owner__frozen_at__isnull=False)
    if paused.everything:
        stopped |= Q(pk__isnull=False)
    elif paused.assets:
        names = list(paused.assets)
        stopped |= Q(market__sold_asset_id__in=names) | Q(market__bought_asset_id__in=names)
    found = Plan.objects.filter(stopped, pk__any_of=plan_ids)
    return plans_locked(set(found.values_list("pk", flat=True)))


def _facts(plans: "QuerySet[Plan]") -> dict[UUID, PlanFacts]:
    rows: Iterable[Any] = plans.values_list(
        "pk",
        "state",
        "name",
        "owner__fee_tier",
        "market__sold_asset_id",
        "market__bought_asset_id",
        "market__enabled",
        "market__min_trade_units",
        "owner__frozen_at",
        "misses_in_a_row",
        "total_budget_units",
    )
    paused = paused_read(activity=Activity.BUYING)
    return {
        row[0]: PlanFacts._make((*row[1:-1], row[-1] is not None, paused.reason_for(row[4], row[5])))
        for row in rows
    }


def closure_for_plan(slot: Slot, plan: PlanFacts) -> Closure | None:
    """The closure that a plan, market, owner or asset which may not buy (any more) asks for, if any."""
    if plan.state == PlanState.PAUSED:
        return Closure(slot, SlotState.SKIPPED, SlotReason.PLAN_PAUSED)
    if plan.state == PlanState.CANCELLED:
        return Closure(slot, SlotState.SKIPPED, SlotReason.PLAN_CANCELLED)
    if not plan.market_enabled:
        return Closure(slot, SlotState.SKIPPED, SlotReason.MARKET_DISABLED)
    if plan.owner_frozen_at is not None:
        return Closure(slot, SlotState.SKIPPED, SlotReason.ACCOUNT_FROZEN)
    if plan.paused:
        return Closure(slot, SlotState.SKIPPED, SlotReason.PAUSED, {"pause": plan.paused})
    return None


def slots_close(closures: Sequence[Closure], plans: dict[UUID, PlanFacts]) -> None:
    """End slots unbought. Their plans are already locked by `plans_locked`.

    Holds of reserved or batched slots are released; amounts go back to their plans' budgets; a plan that misses
    too often for want of funds pauses; one event per slot tells the owner.
    """
    if not closures:
        return
    now = clock.now()
    _release_holds([c.slot for c in closures if c.slot.state != SlotState.OPEN], plans)
    bulk.update(
        "plans_slot",
        [c.slot.pk for c in closures],
        {
            "state": ("text", [c.state.value for c in closures]),
            "reason": ("text", [c.reason.value for c in closures]),
            "decision": ("jsonb", [orjson.dumps(c.facts).decode() for c in closures]),
        },
        operators={"decision": "||"},
        constants={"closed_at": now},
        also=work.STEPPED,
    )
    misses = _count_on_plans(closures)
    events_publish([_event(closure, plans[closure.slot.plan_id], misses) for closure in closures])
    _pause_unfunded([plan_id for plan_id, count in misses.items() if count >= MISSES_BEFORE_PAUSE])


def _release_holds(slots: list[Slot], plans: dict[UUID, PlanFacts]) -> None:
    if not slots:
        return
    held = {s.pk: AccountKey(AccountKind.HELD, plans[s.plan_id].sold_asset_id, s.owner_id) for s in slots}
    free = {
        s.pk: AccountKey(AccountKind.AVAILABLE, plans[s.plan_id].sold_asset_id, s.owner_id) for s in slots
    }
    accounts = accounts_open(keys={*held.values(), *free.values()})
    journals_post(
        drafts=[
            release(
                reference=f"slot:{slot.pk}:release",
                available_id=accounts[free[slot.pk]],
                held_id=accounts[held[slot.pk]],
                units=slot.amount_units,
            )
            for slot in slots
        ]
    )


def _count_on_plans(closures: Sequence[Closure]) -> dict[UUID, int]:
    """Give amounts back to the budgets and count misses; returns the misses in a row of plans that missed."""
    amounts: dict[UUID, int] = defaultdict(int)
    missed: dict[UUID, int] = defaultdict(int)
    for closure in closures:
        amounts[closure.slot.plan_id] += closure.slot.amount_units
        missed[closure.slot.plan_id] += closure.reason == SlotReason.INSUFFICIENT_FUNDS
    ids = list(amounts)
    bulk.update(
        "plans_plan",
        ids,
        {
            "committed_units": ("numeric", [amounts[plan_id] for plan_id in ids]),
            "misses_in_a_row": ("int", [missed[plan_id] for plan_id in ids]),
        },
        operators={"committed_units": "-", "misses_in_a_row": "+"},
    )
    unfunded = [plan_id for plan_id in ids if missed[plan_id]]
    return dict(Plan.objects.filter(pk__any_of=unfunded).values_list("pk", "misses_in_a_row"))


def _event(closure: Closure, plan: PlanFacts, misses: dict[UUID, int]) -> EventDraft:
    slot = closure.slot
    payload = {
        "plan_id": str(slot.plan_id),
        "plan_name": plan.name,
        "slot_id": str(slot.pk),
        "number": slot.number,
        "scheduled_at": slot.scheduled_at.isoformat(),
        "reason": closure.reason.value,
        "amount_units": str(slot.amount_units),
    }
    if closure.reason == SlotReason.INSUFFICIENT_FUNDS:
        # The first miss is the one to tell the owner of; readers look at this number.
        payload["misses_in_a_row"] = misses[slot.plan_id]
    topic = "execution.failed" if closure.state == SlotState.FAILED else "execution.skipped"
    return EventDraft(topic, "person", slot.owner_id, payload, "slot", slot.pk)


def _pause_unfunded(plan_ids: list[UUID]) -> None:
    if not plan_ids:
        return
    paused = list(Plan.objects.filter(pk__any_of=plan_ids, state=PlanState.ACTIVE))
    _change_state(
        Plan.objects.filter(pk__any_of=[p.pk for p in paused]), PlanState.PAUSED, "insufficient_funds"
    )
    events_publish(
        [
            EventDraft(
                "plan.paused",
                "person",
                plan.owner_id,
                {"plan_id": str(plan.pk), "plan_name": plan.name, "reason": "insufficient_funds"},
                "plan",
                plan.pk,
            )
            for plan in paused
        ]
    )


def _change_state(plans: "QuerySet[Plan]", state: PlanState, reason: str) -> None:
    plans.update(state=state, state_reason=reason, updated_at=clock.now())


def plans_complete_spent(plan_ids: set[UUID]) -> None:
    """Complete those of the (locked) plans whose budget is spent and that have nothing in flight."""
    if not plan_ids:
        return
    spent = list(
        Plan.objects.filter(
            pk__any_of=plan_ids, state=PlanState.ACTIVE, committed_units=F("total_budget_units")
        ).exclude(slots__state__in=[SlotState.OPEN, SlotState.RESERVED, SlotState.BATCHED])
    )
    if spent:
        _change_state(
            Plan.objects.filter(pk__any_of=[p.pk for p in spent]), PlanState.COMPLETED, "budget_spent"
        )
        events_publish([plan_completed(plan, "budget_spent") for plan in spent])


def plan_completed(plan: Plan, reason: str) -> EventDraft:
    payload = {"plan_id": str(plan.pk), "plan_name": plan.name, "reason": reason}
    return EventDraft("plan.completed", "person", plan.owner_id, payload, "plan", plan.pk)
