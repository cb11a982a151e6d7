"""A schedule in a person's words."""

from datetime import date, time

from apps.plans.schedule import Kind, ScheduleRule
from apps.plans.zones import zone_get


def describe(rule: ScheduleRule) -> str:
    """The rule in a person's words: "every day at 09:00 Europe/Berlin"."""
    if rule.kind is Kind.CRON:
        return f"at cron {' '.join(rule.cron.split())} {rule.zone}"
    unit = {Kind.HOURLY: "hour", Kind.DAILY: "day", Kind.WEEKLY: "week", Kind.MONTHLY: "month"}[rule.kind]
    every = f"every {unit}" if rule.interval == 1 else f"every {rule.interval} {unit}s"
    if rule.kind is Kind.HOURLY:
        return every
    on = ""
    if rule.kind is Kind.WEEKLY:
        names = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        wanted = [names[day - 1] for day in rule.weekdays] or [names[_origin(rule).weekday()]]
        on = " on " + (", ".join(wanted[:-1]) + " and " if wanted[1:] else "") + wanted[-1]
    elif rule.kind is Kind.MONTHLY:
        day = rule.day or _origin(rule).day
        on = f" on the {day}{_suffix(day)}" + (" (or the month's last day)" if day > 28 else "")
    return f"{every}{on} at {rule.at or time.min:%H:%M} {rule.zone}"


def _origin(rule: ScheduleRule) -> date:
    """Whose weekday, or day of the month, is meant where none is given."""
    return rule.anchor.astimezone(zone_get(rule.zone)).date()


def _suffix(day: int) -> str:
    return "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
