"""A slow, obviously right model of wall-clock time: it looks at the clock on the wall, minute by minute.

It knows nothing of folds, offsets or indexes: it asks the zone only what the clock shows at a given instant.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

from apps.plans.zones import zone_get

MINUTE = timedelta(minutes=1)
Walk = tuple[tuple[datetime, datetime], ...]

# Each with a date near something odd in its clock.
ODD_TIMES: tuple[tuple[str, date], ...] = (
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2024, 3, 10)),
    ("America/New_York", date(2024, 11, 3)),
    ("Australia/Lord_Howe", date(2025, 4, 6)),  # half an hour
    ("Australia/Lord_Howe", date(2025, 10, 5)),
    ("Africa/Casablanca", date(2024, 3, 10)),  # off for Ramadan
    ("Africa/Casablanca", date(2024, 4, 14)),
    ("Asia/Kathmandu", date(1986, 1, 1)),  # +05:30 to +05:45, a gap at midnight of a year's end
    ("Pacific/Apia", date(2011, 12, 30)),  # a day that never was
    ("Pacific/Kwajalein", date(1993, 8, 21)),
    ("America/Sao_Paulo", date(2017, 10, 15)),  # a gap at midnight
    ("America/Sao_Paulo", date(2018, 2, 18)),  # an overlap at midnight
    ("Europe/Dublin", date(2026, 3, 29)),  # standard time in summer
    ("Europe/Dublin", date(2026, 10, 25)),
    ("America/Nuuk", date(2025, 3, 30)),  # a gap up to midnight
    (
        "America/Nuuk",
        date(2023, 10, 29),
    ),  # the first clock change of its last rule, which that year did not have
    ("UTC", date(2024, 2, 29)),
)


@cache
def walk(zone_name: str, middle: date, days: int) -> Walk:
    """(instant, what the clock shows) for each minute from `days` before `middle` to `days` after."""
    zone = zone_get(zone_name)
    instant = datetime.combine(middle - timedelta(days=days), time(), UTC)
    end = datetime.combine(middle + timedelta(days=days), time(), UTC)
    steps: list[tuple[datetime, datetime]] = []
    while instant < end:
        steps.append((instant, zone.fromutc(instant.replace(tzinfo=zone)).replace(tzinfo=None, fold=0)))
        instant += MINUTE
    return tuple(steps)


def fired(steps: Walk, matches: Callable[[datetime], bool]) -> list[datetime]:
    """The instants at which something set for the matching wall-clock minutes runs, each minute once."""
    found: set[datetime] = set()
    latest = steps[0][1] - MINUTE
    for instant, wall in steps:
        # The clock jumped: what was set for the minutes it left out runs as late as if it had not jumped.
        skipped = latest + MINUTE
        while skipped < wall:
            if matches(skipped):
                found.add(instant + (skipped - latest - MINUTE))
            skipped += MINUTE
        # The clock was set back: minutes it shows again have had their run.
        if wall > latest:
            latest = wall
            if matches(wall):
                found.add(instant)
    return sorted(found)


@cache
def clock_changes(zone_name: str, first_year: int, last_year: int) -> tuple[tuple[datetime, timedelta], ...]:
    """(since when, how far ahead of UTC) the clock stands, each change to the minute, found by looking."""
    zone = zone_get(zone_name)

    def ahead(instant: datetime) -> timedelta:
        shown = zone.fromutc(instant.replace(tzinfo=zone)).replace(tzinfo=UTC)
        return shown - instant

    instant = datetime(first_year, 1, 1, tzinfo=UTC)
    changes = [(instant, ahead(instant))]
    while instant.year < last_year:
        following = instant + timedelta(hours=6)
        if ahead(following) != changes[-1][1]:
            changed = next(m for m in _minutes(instant) if ahead(m) != changes[-1][1])
            changes.append((changed, ahead(changed)))
        instant = following
    return tuple(changes)


def _minutes(instant: datetime) -> Iterator[datetime]:
    while True:
        instant += MINUTE
        yield instant


def instant_of(changes: tuple[tuple[datetime, timedelta], ...], wall: datetime) -> datetime:
    """When the clock first shows `wall` or, if it never does, when it would have without the jump."""
    ends = [since for since, _ in changes[1:]] + [datetime.max.replace(tzinfo=UTC)]
    before_jump: datetime | None = None
    for (since, ahead), end in zip(changes, ends, strict=True):
        candidate = wall.replace(tzinfo=UTC) - ahead
        if since <= candidate < end:
            return candidate
        if candidate >= end:
            before_jump = candidate
    assert before_jump is not None
    return before_jump
