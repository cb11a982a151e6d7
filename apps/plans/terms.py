"""What a plan may say: a schedule as a person writes it, and amounts against each other and the market.

Pure checks that raise `DomainError` with a JSON Pointer; `services` applies them, whoever asks.
"""

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from apps.core.api.amounts import amount_format
from apps.core.errors import DomainError
from apps.plans.cron import cron_parse
from apps.plans.missed import ON_TIME
from apps.plans.models import Plan
from apps.plans.rules import rule_of
from apps.plans.schedule import Kind, ScheduleError, ScheduleRule
from apps.plans.zones import OutOfRange
from apps.providers.models import Market

# A start may lie this far back: somebody who sends “today, 00:00” in the evening still means today.
START_GRACE: Final = timedelta(days=1)
START_AHEAD: Final = timedelta(days=5 * 366)
# No schedule may come round more often: every run is a slot for ever, and shares in a swap's gas.
SHORTEST_GAP: Final = timedelta(minutes=5)
NAME_MAX_LENGTH: Final = 80
SLIPPAGE_MAX_BPS: Final = 5_000
# Far above any amount of any asset, and far enough below NUMERIC(78) that sums of many still fit.
UNITS_MAX: Final = 10**60

_TICK: Final = timedelta(microseconds=1)
_DAY_MINUTES: Final = 24 * 60
# ScheduleRule's names for what the API calls otherwise.
_POINTERS: Final = {"zone": "time_zone", "anchor": "start_at"}
# What belongs to one kind of schedule and means nothing in another.
_KIND_FIELDS: Final[dict[str, Any]] = {"interval": 1, "at": None, "weekdays": (), "day": None, "cron": ""}
# Marks that turn the direction of the text around them: a name could then pose as another.
_DIRECTION_MARKS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_AMOUNT_POINTERS: Final = {
    "amount_units": "/amount",
    "total_budget_units": "/total_budget",
    "price_min_units": "/price_min",
    "price_max_units": "/price_max",
}


@dataclass(frozen=True)
class ScheduleInput:
    """A schedule as a person writes it: the fields of the JSON object, not yet checked."""

    kind: str
    time_zone: str
    start_at: datetime
    interval: int = 1
    at: str | None = None
    weekdays: Collection[int] = ()
    day: int | None = None
    cron: str = ""
    end_at: datetime | None = None
    max_runs: int | None = None

    @classmethod
    def of(cls, plan: Plan) -> "ScheduleInput":
        """The schedule that a stored plan has."""
        return cls(
            kind=plan.schedule_kind,
            time_zone=plan.zone,
            start_at=plan.start_at,
            interval=plan.interval,
            at=None if plan.local_time is None else f"{plan.local_time:%H:%M}",
            weekdays=tuple(plan.weekdays),
            day=plan.month_day,
            cron=plan.cron,
            end_at=plan.end_at,
            max_runs=plan.max_runs,
        )

    def merged(self, given: Mapping[str, Any]) -> "ScheduleInput":
        """This schedule with some fields given anew. Another kind starts from that kind's defaults."""
        other_kind = given.get("kind", self.kind) != self.kind
        merged = replace(self, **{**(_KIND_FIELDS if other_kind else {}), **given})
        return replace(merged, weekdays=tuple(sorted(merged.weekdays)))

    def rule(self, *, now: datetime, stored_start_at: datetime | None = None) -> ScheduleRule:
        """The checked rule; raises `DomainError` with a pointer into `/schedule`.

        A start that the plan already has (`stored_start_at`) may lie as far back as it does.
        """
        try:
            rule = ScheduleRule.parse(
                kind=self.kind,
                zone=self.time_zone,
                anchor=self.start_at,
                interval=self.interval,
                at=self.at,
                weekdays=list(self.weekdays),
                day=self.day,
                cron=self.cron,
            )
        except ScheduleError as error:
            raise refused_rule(error) from error
        if rule.kind is Kind.CRON and cron_shortest_gap(rule.cron) < SHORTEST_GAP:
            raise refused("too_often", "A plan runs at most every five minutes.", "/schedule/cron")
        if self.start_at != stored_start_at:
            self._check_start(now)
        if self.end_at is not None and self.end_at <= self.start_at:
            raise refused("end_before_start", "The end is not after the start.", "/schedule/end_at")
        return rule

    def _check_start(self, now: datetime) -> None:
        if self.start_at < now - START_GRACE:
            raise refused("start_in_past", "The start lies more than a day back.", "/schedule/start_at")
        if self.start_at > now + START_AHEAD:
            raise refused("start_too_far", "The start lies more than five years ahead.", "/schedule/start_at")

    def columns(self, rule: ScheduleRule) -> dict[str, Any]:
        """The plan's columns for this schedule."""
        return {
            "schedule_kind": rule.kind.value,
            "interval": rule.interval,
            "local_time": rule.at,
            "weekdays": list(rule.weekdays),
            "month_day": rule.day,
            "cron": " ".join(rule.cron.split()),
            "zone": rule.zone,
            "start_at": rule.anchor,
            "end_at": self.end_at,
            "max_runs": self.max_runs,
        }


def cron_shortest_gap(expression: str) -> timedelta:
    """The least time between two matches on the wall clock, counted as if every day could match."""
    pattern = cron_parse(expression)
    minutes = [60 * hour + minute for hour in pattern.hours for minute in pattern.minutes]
    following = [*minutes[1:], minutes[0] + _DAY_MINUTES]
    return timedelta(minutes=min(after - before for before, after in zip(minutes, following, strict=True)))


def first_run_at(plan: Plan, *, now: datetime) -> datetime | None:
    """The first run of a new plan: its first occurrence that had not passed when the plan was made.

    What lies a few minutes back still counts as now. None when the schedule ends before it.
    """
    return run_after(plan, max(plan.start_at, now - ON_TIME) - _TICK)


def run_after(plan: Plan, instant: datetime) -> datetime | None:
    """The plan's next run strictly after `instant`; None when its end or its number of runs is reached.

    Raises `ScheduleError` for a stored schedule that cannot be computed, say because its zone is gone.
    """
    if plan.max_runs is not None and plan.next_number > plan.max_runs:
        return None
    try:
        following = rule_of(plan).next_after(instant).scheduled_at
    except OutOfRange:
        return None
    return following if plan.end_at is None or following <= plan.end_at else None


def name_check(name: str) -> None:
    """A name is one line of text for people."""
    if not name.strip():
        raise refused("blank", "A plan has a name.", "/name")
    if len(name) > NAME_MAX_LENGTH:
        raise refused("max_length", f"A name has at most {NAME_MAX_LENGTH} characters.", "/name")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _DIRECTION_MARKS for c in name):
        raise refused("invalid_character", "A name is one line without control characters.", "/name")


def amounts_check(plan: Plan, market: Market, *, given: Collection[str]) -> None:
    """Amounts and limits against each other and the market; only what `given` (columns) touches.

    What an operator changed on the market since does not stand in the way of changing something else.
    """
    for column, pointer in _AMOUNT_POINTERS.items():
        units = getattr(plan, column)
        if column in given and units is not None and not 0 < units <= UNITS_MAX:
            raise refused(
                "too_large" if units > 0 else "zero", "More than zero and less than 10^60 units.", pointer
            )
    if "amount_units" in given and plan.amount_units < market.min_trade_units:
        raise below_minimum(market.min_trade_units, market)
    if {"amount_units", "total_budget_units"} & set(given):
        _check_budget(plan, market, given=given)
    low, high = plan.price_min_units, plan.price_max_units
    if (
        {"price_min_units", "price_max_units"} & set(given)
        and low is not None
        and high is not None
        and low > high
    ):
        pointer = "/price_min" if "price_min_units" in given else "/price_max"
        raise refused("price_limits_crossed", "The lower price limit is above the upper one.", pointer)
    if "max_slippage_bps" in given and not 0 <= plan.max_slippage_bps <= slippage_limit_bps(market):
        raise refused(
            "slippage_above_guard",
            f"This market allows at most {slippage_limit_bps(market)} basis points.",
            "/max_slippage_bps",
        )


def _check_budget(plan: Plan, market: Market, *, given: Collection[str]) -> None:
    budget = plan.total_budget_units
    if budget is None:
        return
    pointer = "/total_budget" if "total_budget_units" in given else "/amount"
    if budget < plan.committed_units:
        committed = amount_format(plan.committed_units, decimals=market.sold_asset.decimals)
        raise refused("budget_below_committed", f"{committed} of it is spent or promised already.", pointer)
    if budget < plan.amount_units:
        raise refused("budget_below_amount", "The budget does not pay for one buy.", pointer)
    if 0 < budget - plan.committed_units < market.min_trade_units:
        raise refused("budget_residue", "What this leaves of the budget is too little to trade.", pointer)


def slippage_limit_bps(market: Market) -> int:
    """The most that a plan on this market may accept below the reference price."""
    return int(min(market.guard_bps, SLIPPAGE_MAX_BPS))


def below_minimum(least_units: int, market: Market) -> DomainError:
    least = amount_format(least_units, decimals=market.sold_asset.decimals)
    return refused(
        "below_minimum",
        f"After the fee, at least {least} {market.sold_asset.code} must be left to trade.",
        "/amount",
    )


def refused_rule(error: ScheduleError) -> DomainError:
    """A schedule that cannot be kept, at its place in the body."""
    return refused(error.code, error.message, f"/schedule/{_POINTERS.get(error.field, error.field)}")


def refused(code: str, detail: str, pointer: str) -> DomainError:
    """Bad input at a place in the body."""
    return DomainError(code, detail, pointer=pointer)
