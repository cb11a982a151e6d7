"""What a person does with plans. Every change is one transaction under the plan's lock, with its event."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from apps.core import clock, doorbell
from apps.core.errors import Conflict, DomainError, NotFound
from apps.events.services import EventDraft, events_publish
from apps.plans.missed import MissedPolicy
from apps.plans.models import Plan, PlanState
from apps.plans.rules import rule_of
from apps.plans.schedule import ScheduleError, ScheduleRule
from apps.providers.models import Market

# A first occurrence may lie this far back: somebody who sends “today” in the evening still means today.
START_GRACE = timedelta(days=1)
START_AHEAD = timedelta(days=5 * 366)
# No schedule may come round more often: a buy costs gas, and a tick is a second.
SHORTEST_GAP = timedelta(minutes=5)


@dataclass(frozen=True)
class ScheduleInput:
    """A schedule as a person writes it: the JSON object's fields, not yet checked."""

    kind: str
    time_zone: str
    start_at: datetime
    interval: int = 1
    at: str | None = None
    weekdays: list[int] = field(default_factory=list)
    day: int | None = None
    cron: str = ""
    end_at: datetime | None = None
    max_runs: int | None = None

    def rule(self) -> ScheduleRule:
        """The checked rule; raises `DomainError` with a pointer into `/schedule`."""
        try:
            rule = ScheduleRule.parse(
                kind=self.kind,
                zone=self.time_zone,
                anchor=self.start_at,
                interval=self.interval,
                at=self.at,
                weekdays=self.weekdays,
                day=self.day,
                cron=self.cron,
            )
        except ScheduleError as error:
            names = {"zone": "time_zone", "anchor": "start_at"}
            pointer = f"/schedule/{names.get(error.field, error.field)}"
            raise DomainError(error.code, error.message, pointer=pointer) from error
        self._check_span(rule)
        return rule

    def _check_span(self, rule: ScheduleRule) -> None:
        now = clock.now()
        if self.start_at < now - START_GRACE:
            raise _invalid("start_in_past", "The start lies more than a day back.", "/schedule/start_at")
        if self.start_at > now + START_AHEAD:
            raise _invalid(
                "start_too_far", "The start lies more than five years ahead.", "/schedule/start_at"
            )
        if self.end_at is not None and self.end_at <= self.start_at:
            raise _invalid("end_before_start", "The end is not after the start.", "/schedule/end_at")
        first, second = (
            occurrence for occurrence, _ in zip(rule.after(self.start_at), range(2), strict=False)
        )
        if second - first < SHORTEST_GAP:
            raise _invalid("too_often", "A plan runs at most every five minutes.", "/schedule/cron")
        if self.end_at is not None and self.end_at < first_run(rule, self.start_at):
            raise _invalid("never_runs", "The end comes before the first run.", "/schedule/end_at")

    def columns(self, rule: ScheduleRule) -> dict[str, Any]:
        """The plan's columns for this schedule."""
        return {
            "schedule_kind": rule.kind.value,
            "interval": rule.interval,
            "local_time": rule.at,
            "weekdays": list(rule.weekdays),
            "month_day": rule.day,
            "cron": rule.cron,
            "zone": rule.zone,
            "start_at": rule.anchor,
            "end_at": self.end_at,
            "max_runs": self.max_runs,
        }


def first_run(rule: ScheduleRule, start_at: datetime) -> datetime:
    """The first occurrence, which may be the start itself."""
    return rule.next_after(start_at - timedelta(microseconds=1)).scheduled_at


def plan_draft(*, owner_id: UUID, market: Market, schedule: ScheduleInput, **values: Any) -> Plan:
    """A checked plan that is not saved: what `plan_create` writes and what the preview looks at.

    `values`: name, amount_units, and optionally total_budget_units, price_min_units, price_max_units,
    max_slippage_bps, missed_policy, grace_seconds, run_all_limit. Raises `DomainError` with pointers.
    """
    rule = schedule.rule()
    plan = Plan(owner_id=owner_id, market=market, **schedule.columns(rule), **_defaults(market, values))
    _check_money(plan, market)
    plan.run_after = first_run(rule, schedule.start_at)
    return plan


def plan_create(*, owner_id: UUID, market: Market, schedule: ScheduleInput, **values: Any) -> Plan:
    """Create an active plan (values as for `plan_draft`). Its first run may be due at once.

    Raises `DomainError` with pointers, and `Conflict` when the person has as many live plans as one may have.
    """
    plan = plan_draft(owner_id=owner_id, market=market, schedule=schedule, **values)
    with transaction.atomic():
        live = Plan.objects.filter(owner_id=owner_id, state__in=[PlanState.ACTIVE, PlanState.PAUSED]).count()
        if live >= settings.PLANS_PER_PERSON:
            raise Conflict("too_many_plans", f"A person has at most {settings.PLANS_PER_PERSON} live plans.")
        plan.save(force_insert=True)
        _tell("plan.created", plan)
        _ring_when_due(plan)
    return plan


_EDITABLE = (
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


def plan_update(
    *, owner_id: UUID, plan_id: UUID, version: int, schedule: ScheduleInput | None = None, **values: Any
) -> Plan:
    """Change what may change. `version` is the one the caller saw: another one is a `Conflict`.

    Slots that are open already keep what they were opened with. A new schedule runs from its next occurrence
    after now; numbers go on. Raises `NotFound`, `Conflict` for a plan that has ended, `DomainError`.
    """
    with transaction.atomic():
        plan = _lock(owner_id, plan_id)
        if plan.version != version:
            raise Conflict("version_conflict", f"The plan is at version {plan.version}, not {version}.")
        if plan.state not in (PlanState.ACTIVE, PlanState.PAUSED):
            raise Conflict("plan_ended", f"The plan is {plan.state}: nothing can be changed any more.")
        for name in _EDITABLE:
            if name in values:
                setattr(plan, name, values[name])
        if schedule is not None:
            rule = schedule.rule()
            for name, value in schedule.columns(rule).items():
                setattr(plan, name, value)
            plan.run_after = max(
                first_run(rule, schedule.start_at), rule.next_after(clock.now()).scheduled_at
            )
        _check_money(plan, plan.market)
        plan.version += 1
        plan.save()
        _tell("plan.updated", plan)
        _ring_when_due(plan)
    return plan


def plan_pause(*, owner_id: UUID, plan_id: UUID) -> Plan:
    """Stop buying until resumed. Pausing a paused plan changes nothing. Raises `NotFound`, `Conflict`."""
    with transaction.atomic():
        plan = _lock(owner_id, plan_id)
        if plan.state == PlanState.PAUSED:
            return plan
        _move(plan, PlanState.PAUSED, allowed=(PlanState.ACTIVE,), reason="by_owner")
        _tell("plan.paused", plan, reason="by_owner")
    return plan


def plan_resume(*, owner_id: UUID, plan_id: UUID) -> Plan:
    """Go on with the next occurrence after now: what passed during the pause was not missed.

    Completes the plan instead when no occurrence is left. Raises `NotFound`, `Conflict`.
    """
    with transaction.atomic():
        plan = _lock(owner_id, plan_id)
        if plan.state == PlanState.ACTIVE:
            return plan
        following = rule_of(plan).next_after(clock.now()).scheduled_at
        over = (plan.end_at is not None and following > plan.end_at) or (
            plan.max_runs is not None and plan.next_number > plan.max_runs
        )
        target = PlanState.COMPLETED if over else PlanState.ACTIVE
        plan.misses_in_a_row = 0
        if plan.run_after <= clock.now():
            plan.run_after = following
        _move(plan, target, allowed=(PlanState.PAUSED,), reason="schedule_ended" if over else "")
        _tell("plan.completed" if over else "plan.resumed", plan)
    return plan


def plan_cancel(*, owner_id: UUID, plan_id: UUID) -> Plan:
    """End a plan for good; what is already being bought still settles. Raises `NotFound`, `Conflict`."""
    with transaction.atomic():
        plan = _lock(owner_id, plan_id)
        if plan.state == PlanState.CANCELLED:
            return plan
        _move(plan, PlanState.CANCELLED, allowed=(PlanState.ACTIVE, PlanState.PAUSED), reason="by_owner")
        _tell("plan.cancelled", plan)
    return plan


def _lock(owner_id: UUID, plan_id: UUID) -> Plan:
    """The person's plan, locked; somebody else's is as absent as none."""
    if not Plan.objects.select_for_update().filter(pk=plan_id, owner_id=owner_id).exists():
        raise NotFound
    # Read after the lock is held, so that what is joined is as fresh as the row.
    return Plan.objects.select_related(
        "market__sold_asset", "market__bought_asset", "market__network__native_asset"
    ).get(pk=plan_id)


def _move(plan: Plan, state: PlanState, *, allowed: tuple[PlanState, ...], reason: str) -> None:
    if plan.state not in allowed:
        raise Conflict("illegal_transition", f"The plan is {plan.state} and cannot become {state.value}.")
    plan.state, plan.state_reason = state, reason
    plan.version += 1
    plan.save()


def _defaults(market: Market, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "max_slippage_bps": market.guard_bps,
        "missed_policy": MissedPolicy.RUN_ONCE.value,
        **values,
    }


def _check_money(plan: Plan, market: Market) -> None:
    """What the fields' own checks cannot see: amounts against each other and against the market."""
    if plan.amount_units < market.min_trade_units:
        raise _invalid("below_minimum", "The amount is below the market's minimum trade.", "/amount")
    budget = plan.total_budget_units
    if budget is not None and budget < plan.amount_units:
        raise _invalid("budget_below_amount", "The budget does not pay for one buy.", "/total_budget")
    if budget is not None and budget < plan.committed_units:
        raise _invalid("budget_below_committed", "More than this is committed already.", "/total_budget")
    low, high = plan.price_min_units, plan.price_max_units
    if low is not None and high is not None and low > high:
        raise _invalid("price_limits_crossed", "The lower price limit is above the upper one.", "/price_min")
    if plan.max_slippage_bps > market.guard_bps:
        raise _invalid(
            "slippage_above_guard",
            f"This market allows at most {market.guard_bps} basis points.",
            "/max_slippage_bps",
        )


def _invalid(code: str, detail: str, pointer: str) -> DomainError:
    return DomainError(code, detail, pointer=pointer)


def _ring_when_due(plan: Plan) -> None:
    if plan.state == PlanState.ACTIVE and plan.run_after <= clock.now():
        doorbell.ring("plans.open")


def _tell(topic: str, plan: Plan, **more: str) -> None:
    payload = {"plan_id": str(plan.pk), "plan_name": plan.name, "version": plan.version, **more}
    events_publish([EventDraft(topic, "person", plan.owner_id, payload, "plan", plan.pk)])
