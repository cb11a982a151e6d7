"""When a plan buys: pure rules from (wall-clock rule, IANA zone, anchor) to instants.

Source: design.md, "Schedules". Everything is computed from the anchor, never from the last run, so nothing
drifts. All instants that come out are aware and UTC. `missed.py` decides what to do about late occurrences.

What an occurrence is:

- hourly: anchor + k * interval hours of elapsed time; the first is the anchor itself.
- daily, weekly, monthly: every `interval`-th date, week (from Monday) or month counted from the anchor's
  local date, week or month, at the wall time `at`; the first is the first of these not before the anchor.
- monthly keeps its day (the anchor's, or `day`), clamped to the month's end: 31 Jan, 28 Feb, 31 Mar.
- cron: every matching wall-clock minute, not before the anchor.
- Wall time that a zone skips runs at the earlier offset's equivalent; wall time that comes twice runs the
  first time. Two occurrences that a gap moves onto one instant are one, so instants strictly ascend.
"""

import re
from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from apps.plans.cron import LAST_YEAR, CronPattern, cron_parse
from apps.plans.zones import (
    DAY,
    OutOfRange,
    ScheduleError,
    instant_at,
    instant_of,
    offset_at,
    skipped_days,
    zone_get,
)

__all__ = ["Kind", "Occurrence", "ScheduleError", "ScheduleRule", "Tail"]

FIRST_ANCHOR: Final = datetime(1970, 1, 2, tzinfo=UTC)
LAST_ANCHOR: Final = datetime(3000, 1, 1, tzinfo=UTC)
_LAST_ORDINAL: Final = date(LAST_YEAR, 12, 31).toordinal()
_TICK: Final = timedelta(microseconds=1)
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)
_ZERO: Final = timedelta(0)
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


class Kind(StrEnum):
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    CRON = "cron"


# A year of each, roughly: whoever wants less than once a year wants no plan.
MAX_INTERVAL: Final = {Kind.HOURLY: 8784, Kind.DAILY: 366, Kind.WEEKLY: 53, Kind.MONTHLY: 12, Kind.CRON: 1}
_WALL_KINDS: Final = frozenset({Kind.DAILY, Kind.WEEKLY, Kind.MONTHLY})


class Occurrence(NamedTuple):
    """`number` counts from 1 at the anchor; None where it is not known without counting (cron)."""

    number: int | None
    scheduled_at: datetime


class Tail(NamedTuple):
    """How many occurrences a span has, and the last few of them, ascending."""

    total: int
    last: tuple[datetime, ...]


@dataclass(frozen=True)
class ScheduleRule:
    """A schedule. Built directly from trusted rows; `parse` checks what comes from outside.

    `anchor` is aware; `at` is the wall time of daily, weekly and monthly rules; `weekdays` are ISO (Monday 1,
    Sunday 7), empty for the anchor's; `day` is the day of the month, None for the anchor's.
    """

    kind: Kind
    zone: str
    anchor: datetime
    interval: int = 1
    at: time | None = None
    weekdays: tuple[int, ...] = ()
    day: int | None = None
    cron: str = ""

    def __post_init__(self) -> None:
        # In UTC, because Python compares and subtracts datetimes of one zone by their wall time.
        if self.anchor.tzinfo is None:
            raise ScheduleError("bad_anchor", "anchor", "An instant with a UTC offset.")
        if not FIRST_ANCHOR <= self.anchor < LAST_ANCHOR:
            raise ScheduleError("bad_anchor", "anchor", "Between the years 1970 and 3000.")
        object.__setattr__(self, "anchor", self.anchor.astimezone(UTC))

    # --- reading and checking

    @classmethod
    def parse(
        cls,
        *,
        kind: object,
        zone: object,
        anchor: datetime,
        interval: object = 1,
        at: object = None,
        weekdays: object = (),
        day: object = None,
        cron: object = "",
    ) -> "ScheduleRule":
        """A checked rule from JSON-like values: `at` as "HH:MM", `weekdays` as a list of 1..7.

        Raises ScheduleError: bad_kind, bad_zone, unknown_zone, bad_anchor, bad_interval, bad_time,
        bad_weekdays, bad_day, bad_cron, ambiguous_cron, never_fires, not_applicable. `field` names the
        argument.
        """
        if not isinstance(kind, str) or kind not in set(Kind):
            raise ScheduleError("bad_kind", "kind", f"One of {', '.join(Kind)}.")
        if not isinstance(zone, str):
            raise ScheduleError("bad_zone", "zone", "The name of an IANA time zone.")
        if not isinstance(weekdays, list | tuple) or any(type(value) is not int for value in weekdays):
            raise ScheduleError(
                "bad_weekdays", "weekdays", "A list of numbers from 1 (Monday) to 7 (Sunday)."
            )
        if not isinstance(cron, str):
            raise ScheduleError("bad_cron", "cron", "A cron expression of five fields.")
        if type(interval) is not int:
            raise ScheduleError("bad_interval", "interval", "A whole number.")
        if day is not None and type(day) is not int:
            raise ScheduleError("bad_day", "day", "A day of the month from 1 to 31.")
        if at is not None and not isinstance(at, time):
            at = _time_parse(at)
        days = tuple(sorted(weekdays))
        rule = cls(Kind(kind), zone, anchor, interval, at, days, day, cron)
        rule.validate()
        return rule

    def validate(self) -> None:
        """Raises ScheduleError (codes as in `parse`) for a rule that cannot be kept."""
        zone_get(self.zone)
        if not 1 <= self.interval <= MAX_INTERVAL[self.kind]:
            raise ScheduleError("bad_interval", "interval", f"From 1 to {MAX_INTERVAL[self.kind]}.")
        self._validate_time()
        if self.weekdays and self.kind is not Kind.WEEKLY:
            raise ScheduleError("not_applicable", "weekdays", "Only for weekly schedules.")
        if list(self.weekdays) != sorted(set(self.weekdays) & set(range(1, 8))):
            raise ScheduleError(
                "bad_weekdays", "weekdays", "Different numbers from 1 (Monday) to 7 (Sunday)."
            )
        if self.day is not None and self.kind is not Kind.MONTHLY:
            raise ScheduleError("not_applicable", "day", "Only for monthly schedules.")
        if self.day is not None and not 1 <= self.day <= 31:
            raise ScheduleError("bad_day", "day", "A day of the month from 1 to 31.")
        if self.cron and self.kind is not Kind.CRON:
            raise ScheduleError("not_applicable", "cron", "Only for cron schedules.")
        if self.kind is Kind.CRON:
            cron_parse(self.cron)

    def _validate_time(self) -> None:
        if self.at is None:
            if self.kind in _WALL_KINDS:
                raise ScheduleError("bad_time", "at", "A time of day as HH:MM is needed.")
            return
        if self.kind not in _WALL_KINDS:
            raise ScheduleError("not_applicable", "at", "Only for daily, weekly and monthly schedules.")
        if self.at.second or self.at.microsecond or self.at.tzinfo is not None or self.at.fold:
            raise ScheduleError("bad_time", "at", "A local time in whole minutes.")

    # --- questions

    def occurrence(self, number: int) -> datetime:
        """The number-th occurrence, from 1. Constant time, except for cron, where they are counted through.

        Raises ScheduleError `out_of_range` below 1 and past the year 9990.
        """
        if number < 1:
            raise _out_of_range("number")
        if self.kind is Kind.CRON:
            return next(islice(self.after(self.anchor - _TICK), number - 1, None))
        return self._instant(self._index_of_number(number))

    def next_after(self, instant: datetime) -> Occurrence:
        """The first occurrence strictly after `instant` (aware). Raises ScheduleError `out_of_range`."""
        instant = instant.astimezone(UTC)
        if self.kind is Kind.CRON:
            return Occurrence(None, self._cron_after(max(instant, self.anchor - _TICK)))
        index = self._index_after(instant)
        return Occurrence(self._number_of_index(index), self._instant(index))

    def instant_after(self, instant: datetime) -> datetime:
        """`next_after` without the number, which takes longer to find than the instant."""
        if self.kind is Kind.CRON:
            return self.next_after(instant).scheduled_at
        return self._instant(self._index_after(instant.astimezone(UTC)))

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Every occurrence strictly after `instant`, ascending, until the year 9990."""
        while True:
            try:
                instant = self.instant_after(instant)
            except OutOfRange:
                return
            yield instant

    def between(self, start: datetime, end: datetime, limit: int) -> list[Occurrence]:
        """At most `limit` occurrences with start <= scheduled_at < end, ascending."""
        found: list[Occurrence] = []
        instant, end = start.astimezone(UTC) - _TICK, end.astimezone(UTC)
        while len(found) < limit:
            try:
                occurrence = self.next_after(instant)
            except OutOfRange:
                break
            if occurrence.scheduled_at >= end:
                break
            found.append(occurrence)
            instant = occurrence.scheduled_at
        return found

    def tail(self, after: datetime, until: datetime, *, at_most: int | None, keep: int) -> Tail:
        """Of the first `at_most` occurrences in (after, until]: their count and the last `keep` of them.

        Constant time but for `keep`, however long the span; cron alone is counted through.
        """
        after, until = after.astimezone(UTC), until.astimezone(UTC)
        if self.kind is Kind.CRON:
            return self._cron_tail(after, until, at_most, keep)
        first, end = self._index_after(after), self._index_after(until)
        count = max(self._number_of_index(end) - self._number_of_index(first), 0)
        if at_most is not None:
            count = min(count, at_most)
        stop = self._number_of_index(first) + count
        return Tail(count, tuple(self.occurrence(n) for n in range(stop - min(keep, count), stop)))

    # --- indexes: k counts the grid's dates (or hours) from 0, before anything falls away

    @cached_property
    def _zone(self) -> ZoneInfo:
        return zone_get(self.zone)

    @cached_property
    def _origin(self) -> date:
        return self.anchor.astimezone(self._zone).date()

    @cached_property
    def _week(self) -> tuple[int, tuple[int, ...]]:
        """The ordinal of the Monday the weeks are counted from, and the days after it that are wanted."""
        weekday = self._origin.weekday()
        days = tuple(day - 1 for day in self.weekdays) or (weekday,)
        return self._origin.toordinal() - weekday, days

    def _ordinal(self, k: int) -> int:
        """The k-th date of the grid, as a proleptic ordinal (checked against the calendar's end)."""
        if self.kind is Kind.DAILY:
            ordinal = self._origin.toordinal() + k * self.interval
        elif self.kind is Kind.WEEKLY:
            monday, days = self._week
            weeks, i = divmod(k, len(days))
            ordinal = monday + 7 * self.interval * weeks + days[i]
        else:
            year, month0 = divmod(self._origin.year * 12 + self._origin.month - 1 + k * self.interval, 12)
            if year > LAST_YEAR:
                raise _out_of_range("instant")
            day = min(self.day or self._origin.day, monthrange(year, month0 + 1)[1])
            ordinal = date(year, month0 + 1, day).toordinal()
        if ordinal > _LAST_ORDINAL:
            raise _out_of_range("instant")
        return ordinal

    def _last_index_at(self, day: date) -> int:
        """The greatest k whose date is not after `day`; negative when there is none."""
        if self.kind is Kind.DAILY:
            return (day.toordinal() - self._origin.toordinal()) // self.interval
        if self.kind is Kind.WEEKLY:
            monday, days = self._week
            weeks, rest = divmod(day.toordinal() - monday, 7 * self.interval)
            return weeks * len(days) + bisect_right(days, rest) - 1
        k = ((day.year - self._origin.year) * 12 + day.month - self._origin.month) // self.interval
        return k if k < 0 or self._ordinal(k) <= day.toordinal() else k - 1

    def _instant(self, k: int) -> datetime:
        if self.kind is Kind.HOURLY:
            if k * self.interval > (_LAST_ORDINAL - self._origin.toordinal()) * 24:
                raise _out_of_range("instant")
            return self.anchor + k * self.interval * _HOUR
        return instant_at(date.fromordinal(self._ordinal(k)), self.at or time.min, self._zone)

    @cached_property
    def _first_index(self) -> int:
        return self._search(self.anchor - _TICK, 0)

    def _index_after(self, instant: datetime) -> int:
        """The smallest k of an occurrence strictly after `instant`."""
        if instant < self.anchor:
            return 0 if self.kind is Kind.HOURLY else self._first_index
        if instant.year > LAST_YEAR:
            raise _out_of_range("instant")
        if self.kind is Kind.HOURLY:
            return (instant - self.anchor) // (self.interval * _HOUR) + 1
        return self._search(instant, 0)

    def _search(self, instant: datetime, least: int) -> int:
        # Instants never fall as k rises, and a gap moves one by a day at most: so the grid's date before the
        # last one reached is at most one step too late, and the answer is a step or two away.
        k = max(self._last_index_at(instant.astimezone(self._zone).date()) - 1, least)
        while self._instant(k) <= instant:
            k += 1
        return k

    @cached_property
    def _merged(self) -> Sequence[int]:
        """The indexes that share their instant with the next: their date never was (Apia, 2011-12-30)."""
        if self.kind is Kind.HOURLY:
            return ()
        found: list[int] = []
        for ordinal in skipped_days(self.zone):
            k = self._last_index_at(date.fromordinal(ordinal))
            if k >= self._first_index and self._instant(k) == self._instant(k + 1):
                found.append(k)
        return found

    def _number_of_index(self, k: int) -> int:
        if self.kind is Kind.HOURLY:
            return k + 1
        return k - self._first_index + 1 - bisect_left(self._merged, k)

    def _index_of_number(self, number: int) -> int:
        if self.kind is Kind.HOURLY:
            return number - 1
        k = self._first_index + number - 1
        for merged in self._merged:
            if merged <= k:
                k += 1
        return k

    # --- cron: naive local matches, then made instants

    @cached_property
    def _pattern(self) -> CronPattern:
        return cron_parse(self.cron)

    def _cron_after(self, instant: datetime) -> datetime:
        if instant.year > LAST_YEAR:
            raise _out_of_range("instant")
        zone, pattern = self._zone, self._pattern
        wall = instant.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0, fold=0)
        wall += _MINUTE - self._gap_just_before(instant)
        while True:
            wall = pattern.at_or_after(wall)
            found = instant_of(wall, zone)
            if found > instant:
                break
            wall += _MINUTE  # the second pass of an overlap: these ran the first time
        # A match inside a gap moves forward, past matches that come after it on the clock: take the earliest.
        gap = found.astimezone(zone).replace(tzinfo=None, fold=0) - wall
        limit = wall + gap
        while (wall := pattern.at_or_after(wall + _MINUTE)) < limit:
            other = instant_of(wall, zone)
            if instant < other < found:
                found = other
        return found

    def _gap_just_before(self, instant: datetime) -> timedelta:
        """The size of a gap whose skipped wall times still run after `instant`; nearly always nothing."""
        offset = offset_at(instant, self._zone)
        gap = offset - offset_at(instant - DAY, self._zone)
        if gap <= _ZERO or offset_at(instant - gap, self._zone) == offset:
            return _ZERO
        return gap

    def _cron_tail(self, after: datetime, until: datetime, at_most: int | None, keep: int) -> Tail:
        last: deque[datetime] = deque(maxlen=keep)
        count = 0
        for instant in self.after(after):
            if instant > until or (at_most is not None and count >= at_most):
                break
            last.append(instant)
            count += 1
        return Tail(count, tuple(last))


def _time_parse(text: object) -> time:
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ScheduleError("bad_time", "at", "A time of day as HH:MM.")
    return time(int(match[1]), int(match[2]))


def _out_of_range(field: str) -> OutOfRange:
    return OutOfRange(f"Occurrences are counted from 1 to the year {LAST_YEAR}.", field=field)
