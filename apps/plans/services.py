"""What a person does with plans. Every change is one transaction under the plan's lock, with its event.

Whatever is changed takes the plan's lease away from a worker that has claimed but not locked it yet: the worker
then leaves the plan alone, and the next tick sees it as it is now.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from apps.core import clock, doorbell
from apps.core.errors import Conflict, NotFound
from apps.events.services import EventDraft, events_publish
from apps.fees.services import fee_quote
from apps.plans import terms
from apps.plans.missed import MissedPolicy
from apps.plans.models import Plan, PlanState
from apps.plans.rules import rule_of
from apps.plans.schedule import ScheduleError
from apps.plans.steps.outcomes import plan_completed, plans_complete_spent
from apps.plans.terms import ScheduleInput
from apps.providers.models import Market

LIVE = (PlanState.ACTIVE, PlanState.PAUSED)
BY_OWNER, BY_OPERATOR = "by_owner", "by_operator"

# Columns that a person may set, besides the schedule's.
_TERMS = (
    "name",
    "amount_units",
    "total_budget_units",
    "price_min_units",
    "price_max_units",
    "max_slippage_bps",
    "missed_policy",
    "grace_seconds",
    "run_all_limit",
)


def plan_draft(*, owner_id: UUID, market: Market, schedule: ScheduleInput, **values: Any) -> Plan:
    """A checked plan that is not saved: what `plan_create` writes and what the preview looks at.

    `values`: name, amount_units, and optionally total_budget_units, price_min_units, price_max_units,
    max_slippage_bps (the market's guard when absent), missed_policy, grace_seconds, run_all_limit. No query.
    Raises `DomainError` with pointers, `TypeError` for a value that a plan does not have.
    """
    _known(values)
    now = clock.now()
    rule = schedule.rule(now=now)
    defaults = {
        "max_slippage_bps": terms.slippage_limit_bps(market),
        "missed_policy": MissedPolicy.RUN_ONCE.value,
    }
    plan = Plan(owner_id=owner_id, market=market, **schedule.columns(rule), **{**defaults, **values})
    terms.name_check(plan.name)
    terms.amounts_check(plan, market, given=_TERMS)
    first = terms.first_run_at(plan, now=now)
    if first is None:
        raise terms.refused("never_runs", "The end comes before the first run.", "/schedule/end_at")
    plan.run_after = first
    return plan


def plan_create(*, owner_id: UUID, market: Market, schedule: ScheduleInput, **values: Any) -> Plan:
    """Create an active plan (values as for `plan_draft`). Its first run may be due at once.

    Raises `DomainError` with pointers, `Conflict` when the person has as many live plans as one may have, and
    `FeeScheduleMissing`.
    """
    plan = plan_draft(owner_id=owner_id, market=market, schedule=schedule, **values)
    with transaction.atomic():
        _check_net(plan, market, tier=_person_lock(owner_id))
        if _live_count(owner_id) >= settings.PLANS_PER_PERSON:
            raise Conflict("too_many_plans", f"A person has at most {settings.PLANS_PER_PERSON} live plans.")
        plan.save(force_insert=True)
        _tell("plan.created", plan)
        _ring_when_due(plan)
    return plan


def plan_update(
    *,
    owner_id: UUID,
    plan_id: UUID,
    version: int,
    schedule: Mapping[str, Any] | None = None,
    **values: Any,
) -> Plan:
    """Change what may change: values as for `plan_draft`, and any of `ScheduleInput`'s fields in `schedule`.

    `version` is the one the caller saw; another one is a `Conflict`. Slots that are open keep what they were
    opened with. A schedule with other times runs from its next occurrence after now; numbers go on. When nothing
    changes nothing is written. Raises `NotFound`, `Conflict` for a plan that has ended, `DomainError`.
    """
    _known(values)
    with transaction.atomic():
        plan = _lock(owner_id, plan_id)
        if plan.state not in LIVE:
            raise Conflict("plan_ended", f"The plan is {plan.state}: nothing can be changed any more.")
        if plan.version != version:
            raise Conflict("version_conflict", f"The plan is at version {plan.version}, not {version}.")
        changed = [name for name, value in values.items() if getattr(plan, name) != value]
        for name in changed:
            setattr(plan, name, values[name])
        rescheduled = _reschedule(plan, schedule or {})
        if not changed and not rescheduled:
            return plan
        if "name" in changed:
            terms.name_check(plan.name)
        terms.amounts_check(plan, plan.market, given=changed)
        if "amount_units" in changed:
            _check_net(plan, plan.market, tier=plan.owner.fee_tier)
        _save(plan)
        _tell("plan.updated", plan, changed=sorted(changed) + ["schedule"] * rescheduled)
        _complete_when_spent(plan)
        _ring_when_due(plan)
    return plan


def plan_pause(*, owner_id: UUID, plan_id: UUID, reason: str = BY_OWNER) -> Plan:
    """Stop buying until resumed; what is on its way to the chain still settles.

    Pausing a paused plan changes nothing. Raises `NotFound`, `Conflict`.
    """
    with transaction.atomic():
        plan = _lock(owner_id, plan_id)
        if plan.state != PlanState.PAUSED:
            _allow(plan, PlanState.ACTIVE, to="paused")
            _move(plan, PlanState.PAUSED, reason)
            _tell("plan.paused", plan, reason=reason)
    return plan


def plan_resume(*, owner_id: UUID, plan_id: UUID, reason: str = BY_OWNER) -> Plan:
    """Go on with the next occurrence after now: what passed during the pause was not missed, nor numbered.

    Completes the plan instead when no occurrence, or nothing of its budget, is left. Resuming an active plan
    changes nothing. Raises `NotFound`, `Conflict`, and `DomainError` for a schedule that cannot be computed.
    """
    with transaction.atomic():
        plan = _lock(owner_id, plan_id)
        if plan.state == PlanState.ACTIVE:
            return plan
        _allow(plan, PlanState.PAUSED, to="resumed")
        try:
            following = terms.run_after(plan, clock.now())
        except ScheduleError as error:
            # Not its end: what is wrong with it can be changed.
            raise terms.refused_rule(error) from error
        plan.misses_in_a_row = 0
        if following is None:
            _move(plan, PlanState.COMPLETED, "schedule_ended")
            events_publish([plan_completed(plan, "schedule_ended")])
            return plan
        plan.run_after = following
        _move(plan, PlanState.ACTIVE, "")
        _tell("plan.resumed", plan, reason=reason)
        _complete_when_spent(plan)
    return plan


def plan_cancel(*, owner_id: UUID, plan_id: UUID, reason: str = BY_OWNER) -> Plan:
    """End a plan for good; what is on its way to the chain still settles.

    Cancelling a cancelled plan changes nothing. Raises `NotFound`, `Conflict`.
    """
    with transaction.atomic():
        plan = _lock(owner_id, plan_id)
        if plan.state != PlanState.CANCELLED:
            _allow(plan, *LIVE, to="cancelled")
            _move(plan, PlanState.CANCELLED, reason)
            _tell("plan.cancelled", plan, reason=reason)
    return plan


def _lock(owner_id: UUID, plan_id: UUID) -> Plan:
    """The person's plan, locked; somebody else's is as absent as none."""
    found = Plan.objects.select_for_update().filter(pk=plan_id, owner_id=owner_id).values_list("pk").first()
    if found is None:
        raise NotFound
    # Read after the lock is held, so that what is joined is as fresh as the row.
    return Plan.objects.select_related("owner", "market__sold_asset", "market__bought_asset").get(pk=plan_id)


def _person_lock(owner_id: UUID) -> str:
    """Let one plan of a person be created at a time, so that the limit holds; returns their fee tier.

    Raises `NotFound` for an account that was closed, also while this waited for the lock.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT fee_tier FROM accounts_user WHERE id = %s AND is_active FOR NO KEY UPDATE", [owner_id]
        )
        row = cursor.fetchone()
    if row is None:
        raise NotFound
    return str(row[0])


def _live_count(owner_id: UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM plans_plan WHERE owner_id = %s AND state IN ('active', 'paused')",
            [owner_id],
        )
        return int(cursor.fetchone()[0])


def _allow(plan: Plan, *states: PlanState, to: str) -> None:
    if plan.state not in states:
        raise Conflict("illegal_transition", f"The plan is {plan.state}: it cannot be {to} any more.")


def _move(plan: Plan, state: PlanState, reason: str) -> None:
    plan.state, plan.state_reason = state, reason
    _save(plan)


def _save(plan: Plan) -> None:
    """Write a locked plan: a version on, and out of any worker's hands. What was buried gets its next chance."""
    plan.version += 1
    plan.updated_at = clock.now()
    plan.lease_token = plan.leased_until = plan.buried_at = None
    plan.attempts, plan.last_error = 0, ""
    plan.save(force_update=True)


def _reschedule(plan: Plan, given: Mapping[str, Any]) -> bool:
    """Apply the given fields of the schedule; whether anything is different now."""
    before = ScheduleInput.of(plan)
    after = before.merged(given)
    if after == before:
        return False
    now = clock.now()
    rule = after.rule(now=now, stored_start_at=before.start_at)
    other_times = rule != rule_of(plan)
    for name, value in after.columns(rule).items():
        setattr(plan, name, value)
    following = terms.run_after(plan, now)
    if following is None:
        limit = "max_runs" if plan.max_runs is not None and plan.next_number > plan.max_runs else "end_at"
        raise terms.refused(
            "nothing_left", "No run would be left; cancel the plan instead.", f"/schedule/{limit}"
        )
    # An end or a number of runs says nothing about when: a run that is just due stays due.
    if other_times:
        plan.run_after = following
    return True


def _check_net(plan: Plan, market: Market, *, tier: str) -> None:
    """What the fee leaves of the amount must be tradable, or every run would be skipped."""
    quote = fee_quote(asset_id=market.sold_asset_id, tier=tier, amount_units=plan.amount_units)
    if quote.net_units < market.min_trade_units:
        raise terms.below_minimum(market.min_trade_units, market)


def _complete_when_spent(plan: Plan) -> None:
    """A budget that is used up, with nothing under way, ends the plan here: no settlement will come to do it."""
    if plan.total_budget_units is not None and plan.total_budget_units == plan.committed_units:
        plans_complete_spent({plan.pk})
        plan.refresh_from_db(fields=["state", "state_reason"])


def _known(values: Mapping[str, Any]) -> None:
    unknown = set(values) - set(_TERMS)
    if unknown:
        raise TypeError(f"a plan has no {', '.join(sorted(unknown))}")


def _ring_when_due(plan: Plan) -> None:
    if plan.state == PlanState.ACTIVE and plan.run_after <= clock.now():
        doorbell.ring("plans.open")


def _tell(topic: str, plan: Plan, **more: Any) -> None:
    payload = {"plan_id": str(plan.pk), "plan_name": plan.name, "version": plan.version, **more}
    events_publish([EventDraft(topic, "person", plan.owner_id, payload, "plan", plan.pk)])
