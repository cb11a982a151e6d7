"""IANA zones from the pinned `tzdata` package, and the one rule that turns a wall-clock time into an instant.

The machine's own zone database is never read: two workers on two machines would otherwise disagree about
when a plan is due. Rules of design.md, "Schedules".
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo

DAY: Final = timedelta(days=1)
# Zones are searched for skipped days over these years; none is announced for the future.
_SEARCHED_YEARS: Final = (1970, 2100)
# Two crossings of the date line within this span are unheard of, so that one jump cannot hide another.
_SEARCH_STEP: Final = timedelta(days=20)


class ScheduleError(ValueError):
    """A schedule that cannot be kept. `code` is stable and machine-readable, `field` names the bad input."""

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.message = message


class OutOfRange(ScheduleError):
    """Past the calendar's end, or before the first occurrence: the only one that is no sign of a broken schedule."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__("out_of_range", field, message)


@cache
def zone_names() -> frozenset[str]:
    """Every zone and alias of the pinned database, in IANA spelling."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("ascii").split())


def zone_get(name: str) -> ZoneInfo:
    """The zone of that name. Raises ScheduleError `unknown_zone`; names are case-sensitive, as IANA's are."""
    if name not in zone_names():
        # Asked before the cache, so that hostile names take no room in it.
        raise ScheduleError("unknown_zone", "zone", "Not an IANA time zone.")
    return _zone_load(name)


@cache
def _zone_load(name: str) -> ZoneInfo:
    with resources.files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as stream:
        return ZoneInfo.from_file(stream, key=name)


def instant_at(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The UTC instant of a wall-clock time on a date, by `instant_of`."""
    return instant_of(datetime.combine(day, at), zone)


# What falls due together was mostly asked for at few wall-clock times: thousands of plans meet in a few instants.
@lru_cache(maxsize=8_192)
def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """The UTC instant at which the zone's clock shows `wall` (naive, `fold=0`).

    `fold=0` (PEP 495) is both of our rules at once: in a gap it takes the offset before the gap, so 02:30
    runs at what the clock calls 03:30; in an overlap it takes the first of the two.
    """
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    seen = found.astimezone(zone).replace(tzinfo=None, fold=0)
    if seen != wall:
        # A gap; or zoneinfo took a clock change for one that the zone's last rule has and that year had not
        # (America/Nuuk, October 2023): then another instant has just that wall-clock time.
        other = found + (wall - seen)
        if other.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
            return other
    return found


@cache
def skipped_days(name: str) -> tuple[int, ...]:
    """Ordinals of the local dates that the zone never had, e.g. 2011-12-30 in Pacific/Apia.

    Only there can two occurrences a day or more apart fall on one instant.
    """
    zone = zone_get(name)
    found: list[int] = []
    left = datetime(_SEARCHED_YEARS[0], 1, 1, tzinfo=UTC)
    end = datetime(_SEARCHED_YEARS[1], 1, 1, tzinfo=UTC)
    while left < end:
        right = left + _SEARCH_STEP
        if offset_at(right, zone) - offset_at(left, zone) > DAY / 2:
            found.extend(_days_lost(left, right, zone))
        left = right
    return tuple(found)


def _days_lost(left: datetime, right: datetime, zone: ZoneInfo) -> list[int]:
    """The dates absent between two instants: a walk in quarters of an hour never meets them."""
    met: list[int] = []
    instant = left
    while instant <= right:
        met.append(instant.astimezone(zone).toordinal())
        instant += timedelta(minutes=15)
    return sorted(set(range(met[0], met[-1] + 1)) - set(met))


def offset_at(instant: datetime, zone: ZoneInfo) -> timedelta:
    """How far the zone's clock is ahead of UTC at an instant.

    Not `utcoffset()` of what the clock shows then: that looks the offset up by wall time, like `instant_of` before its
    second thought.
    """
    return instant.astimezone(zone).replace(tzinfo=UTC) - instant
