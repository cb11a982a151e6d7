"""Step 1: open slots. One per (plan, number), computed from the plan's anchor; the plan moves to its next run."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from apps.core import bulk, clock, doorbell, failpoints, work
from apps.core.errors import Terminal
from apps.core.ids import uuid7_many
from apps.events.services import EventDraft, events_publish
from apps.plans import missed
from apps.plans.models import Plan, PlanState, SlotReason, SlotState
from apps.plans.rules import rule_of
from apps.plans.schedule import ScheduleError
from apps.plans.steps.outcomes import plan_completed
from apps.providers.models import Market


@dataclass
class _Opened:
    """The rows of one chunk, column by column, as COPY wants them."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    events: list[EventDraft] = field(default_factory=list)


def slots_open(plans: list[Plan]) -> None:
    """Open what is due for locked plans: COPY of the slots, one UPDATE of the plans. Rings the reserve step.

    A plan that completes here has run out of occurrences; its last slots may still be under way.
    """
    now = clock.now()
    minimums = dict(
        Market.objects.filter(pk__in={plan.market_id for plan in plans}).values_list("pk", "min_trade_units")
    )
    opened = _Opened()
    for plan in plans:
        try:
            rule = rule_of(plan)
            due = missed.due(
                rule,
                next_number=plan.next_number,
                next_run_at=plan.run_after,
                now=now,
                policy=missed.MissedPolicy(plan.missed_policy),
                grace=timedelta(seconds=plan.grace_seconds),
                limit=plan.run_all_limit,
                end_at=plan.end_at,
                max_runs=plan.max_runs,
            )
        except ScheduleError as error:
            raise Terminal(f"schedule: {error}") from error
        for number, at in due.skipped.runs(rule) if due.skipped else ():
            _skip(opened, plan, number, at, SlotReason.MISSED, now)
        for number, at in due.runs:
            amount = _amount(plan, minimums[plan.market_id])
            if amount == 0:
                _skip(opened, plan, number, at, SlotReason.BUDGET_EXHAUSTED, now)
                continue
            plan.committed_units += amount
            opened.rows.append(_row(plan, number, at, amount, SlotState.OPEN, "", None))
        plan.next_number = due.next_number
        if due.next_run_at is None:
            plan.state, plan.state_reason = PlanState.COMPLETED, "schedule_ended"
            opened.events.append(plan_completed(plan, "schedule_ended"))
        else:
            plan.run_after = due.next_run_at
    _write(opened, now)
    failpoints.reach("plans.open.slots_written")
    bulk.update(
        "plans_plan",
        [plan.pk for plan in plans],
        {
            "next_number": ("int", [plan.next_number for plan in plans]),
            "run_after": ("timestamptz", [plan.run_after for plan in plans]),
            "committed_units": ("numeric", [plan.committed_units for plan in plans]),
        },
        also=work.STEPPED,
    )
    bulk.update(
        "plans_plan",
        [plan.pk for plan in plans if plan.state == PlanState.COMPLETED],
        {},
        constants={"state": PlanState.COMPLETED.value, "state_reason": "schedule_ended"},
    )
    events_publish(opened.events)
    doorbell.ring("plans.reserve")


def _amount(plan: Plan, minimum: int) -> int:
    """The amount of the next slot: the plan's, cut to what the budget has left; the last takes the residue."""
    if plan.total_budget_units is None:
        return int(plan.amount_units)
    left = plan.total_budget_units - plan.committed_units
    amount = min(plan.amount_units, left)
    # What would be left is too small ever to be bought for: this slot is the last one and takes it.
    return int(left if 0 < left - amount < minimum else amount)


def _skip(opened: _Opened, plan: Plan, number: int, at: datetime, reason: SlotReason, now: datetime) -> None:
    opened.rows.append(_row(plan, number, at, plan.amount_units, SlotState.SKIPPED, reason.value, now))


def _row(
    plan: Plan,
    number: int,
    at: datetime,
    amount: int,
    state: SlotState,
    reason: str,
    closed_at: datetime | None,
) -> dict[str, Any]:
    return {
        "plan_id": plan.pk,
        "number": number,
        "owner_id": plan.owner_id,
        "market_id": plan.market_id,
        "scheduled_at": at,
        "state": state.value,
        "reason": reason,
        "amount_units": amount,
        "price_min_units": plan.price_min_units,
        "price_max_units": plan.price_max_units,
        "max_slippage_bps": plan.max_slippage_bps,
        "closed_at": closed_at,
        "decision": orjson.dumps({"plan_version": plan.version}).decode(),
        "plan_name": plan.name,
    }


def _write(opened: _Opened, now: datetime) -> None:
    rows = opened.rows
    ids: list[UUID] = uuid7_many(len(rows), now)
    names = [row.pop("plan_name") for row in rows]
    if rows:
        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
        bulk.insert(
            "plans_slot",
            {"id": ids, "run_after": [now] * len(rows), "created_at": [now] * len(rows), **columns},
        )
    opened.events[:0] = [
        EventDraft(
            "execution.skipped",
            "person",
            row["owner_id"],
            {
                "plan_id": str(row["plan_id"]),
                "plan_name": name,
                "slot_id": str(pk),
                "number": row["number"],
                "scheduled_at": row["scheduled_at"].isoformat(),
                "reason": row["reason"],
                "amount_units": str(row["amount_units"]),
            },
            "slot",
            pk,
        )
        for pk, row, name in zip(ids, rows, names, strict=True)
        if row["state"] == SlotState.SKIPPED
    ]
