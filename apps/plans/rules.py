"""From a plan's row to its schedule rule."""

from apps.plans.models import Plan
from apps.plans.schedule import Kind, ScheduleRule


def rule_of(plan: Plan) -> ScheduleRule:
    """The rule that a stored plan follows; its values were checked when the plan was written."""
    return ScheduleRule(
        kind=Kind(plan.schedule_kind),
        zone=plan.zone,
        anchor=plan.start_at,
        interval=plan.interval,
        at=plan.local_time,
        weekdays=tuple(plan.weekdays),
        day=plan.month_day,
        cron=plan.cron,
    )
