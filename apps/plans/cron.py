"""Five-field cron expressions over wall-clock time: a strict grammar and a fast step to the next match.

Grammar: minute hour day-of-month month day-of-week, each `*`, `*/s`, or a comma list of `n`, `n-m`, `n-m/s`;
months and weekdays also as jan..dec and sun..sat; Sunday is 0 or 7. When both day fields are restricted, a
day that matches either one matches (crontab(5)). What implementations read differently is refused rather
than guessed, since a wrong guess spends a person's money: ranges that wrap round, `L W # ? @daily`, a seconds
field, and `*/2` beside a restricted other day field. The tests compare the accepted forms with croniter.
"""

import re
from bisect import bisect_left
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from apps.plans.zones import OutOfRange, ScheduleError

MAX_LENGTH: Final = 200
# Past this year nothing is scheduled; it leaves room below datetime.MAXYEAR for zone arithmetic.
LAST_YEAR: Final = 9990

_MONTH_NAMES: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS: Final = {name: i for i, name in enumerate(_MONTH_NAMES, 1)}
_WEEKDAYS: Final = {name: i for i, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _WEEKDAYS),
)
_VALUE: Final = "([0-9]{1,2}|[a-z]{3})"
_PART: Final = re.compile(rf"(?:\*|{_VALUE}(?:-{_VALUE})?)(?:/([0-9]{{1,2}}))?", re.ASCII)
_DAYS_AT_MOST: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ALL_DAYS: Final = frozenset(range(1, 32))
_ALL_WEEKDAYS: Final = frozenset(range(7))
_ONE_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class CronPattern:
    """A parsed expression. Weekdays are Python's, Monday 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def at_or_after(self, wall: datetime) -> datetime:
        """The first matching wall-clock minute not before `wall` (naive).

        Raises ScheduleError `out_of_range` past LAST_YEAR.
        """
        if wall.second or wall.microsecond:
            wall = wall.replace(second=0, microsecond=0) + _ONE_MINUTE
        if self._matches(wall.month, wall.day, wall.weekday()):
            i = bisect_left(self.hours, wall.hour)
            if i < len(self.hours) and self.hours[i] == wall.hour:
                j = bisect_left(self.minutes, wall.minute)
                if j < len(self.minutes):
                    return wall.replace(minute=self.minutes[j])
                i += 1
            if i < len(self.hours):
                return wall.replace(hour=self.hours[i], minute=self.minutes[0])
        return self._first_of_next_day(wall)

    def _first_of_next_day(self, wall: datetime) -> datetime:
        year, month, day = wall.year, wall.month, wall.day + 1
        while year <= LAST_YEAR:
            if month in self.months:
                first_weekday, length = monthrange(year, month)
                while day <= length:
                    if self._matches(month, day, (first_weekday + day - 1) % 7):
                        return datetime(year, month, day, self.hours[0], self.minutes[0])  # noqa: DTZ001
                    day += 1
            day = 1
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        raise OutOfRange(f"Nothing is scheduled after the year {LAST_YEAR}.", field="cron")

    def _matches(self, month: int, day: int, weekday: int) -> bool:
        if month not in self.months:
            return False
        if self.days == _ALL_DAYS:
            return weekday in self.weekdays
        if self.weekdays == _ALL_WEEKDAYS:
            return day in self.days
        return day in self.days or weekday in self.weekdays


@lru_cache(maxsize=4096)
def cron_parse(expression: str) -> CronPattern:
    """Reads an expression, in bounded time. Raises ScheduleError bad_cron, ambiguous_cron or never_fires."""
    fields = expression.lower().split(" ") if len(expression) <= MAX_LENGTH else []
    fields = [field for field in fields if field]
    if len(fields) != len(_FIELDS):
        raise _bad(f"Give five fields separated by spaces, in at most {MAX_LENGTH} characters.")
    minutes, hours, days, months, weekdays = (_values(i, text) for i, text in enumerate(fields))
    # Cron counts from Sunday and knows it twice; Python counts from Monday.
    weekdays = frozenset((value + 6) % 7 for value in weekdays)
    pattern = CronPattern(
        tuple(sorted(minutes)), tuple(sorted(hours)), frozenset(days), frozenset(months), weekdays
    )
    _check_days(pattern, fields[2], fields[4])
    return pattern


def _values(index: int, text: str) -> frozenset[int]:
    name, low, high, names = _FIELDS[index]
    found: set[int] = set()
    parts = text.split(",")
    if len(parts) > 1 and any(part.startswith("*") for part in parts):
        raise _bad(f"In {name}, * cannot stand in a list.")
    for part in parts:
        match = _PART.fullmatch(part)
        if match is None:
            raise _bad(f"The {name} field is not understood.")
        first, last, step_text = match.groups()
        step = int(step_text) if step_text else 1
        if step < 1 or step > high:
            raise _bad(f"The step of the {name} field is out of range.")
        if first is None:
            # `*` in the weekday field is 0-6: with 7 in it, steps would meet Sunday twice.
            found.update(range(low, (6 if high == 7 else high) + 1, step))
            continue
        if step_text and last is None:
            raise _bad(f"In {name}, a step needs * or a range before it.")
        start = _number(first, name, low, high, names)
        end = _number(last, name, low, high, names) if last is not None else start
        if end < start:
            raise _bad(f"The range of the {name} field runs backwards.")
        found.update(range(start, end + 1, step))
    return frozenset(found)


def _number(text: str, name: str, low: int, high: int, names: dict[str, int]) -> int:
    value = names.get(text, -1) if text.isalpha() else int(text)
    if not low <= value <= high:
        raise _bad(f"A value of the {name} field is out of range.")
    return value


def _check_days(pattern: CronPattern, days_text: str, weekdays_text: str) -> None:
    free = {"*", "*/1"}
    if days_text not in free and weekdays_text not in free:
        both_plain = "*" not in days_text and "*" not in weekdays_text
        if not both_plain or pattern.days == _ALL_DAYS or pattern.weekdays == _ALL_WEEKDAYS:
            raise ScheduleError(
                "ambiguous_cron",
                "cron",
                "Cron programs disagree on these two day fields; write one as * or both as plain lists.",
            )
    if pattern.weekdays != _ALL_WEEKDAYS:
        return  # some weekday comes round in every month
    first_day = min(pattern.days)
    if all(first_day > _DAYS_AT_MOST[month] for month in pattern.months):
        raise ScheduleError("never_fires", "cron", "No such date exists, so this expression never fires.")


def _bad(message: str) -> ScheduleError:
    return ScheduleError("bad_cron", "cron", message)
