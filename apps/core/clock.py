"""Time is a dependency: business code asks `now()`, never the operating system.

`settings.CLOCK` names the class that answers. Production has the standard clock; the sandbox and the tests have one
that can be turned. Leases do not use this clock but PostgreSQL's own (see `apps.core.work`).

The standard clock is PostgreSQL's, as far as a process can tell without asking: each new connection (at least one a
minute) compares it with the machine's, and from a difference that cannot be the way's the database's is kept, carried
on by the monotonic clock. So what a process on a machine whose clock is wrong puts off or leaves due is due for all
others at the time that was meant, and what is written has the time of the others.
"""

import logging
from datetime import UTC, datetime, timedelta
from functools import cache
from time import monotonic
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

logger = logging.getLogger(__name__)

# Below this two clocks agree: stepping to and fro by milliseconds would serve nobody.
_AGREE = timedelta(milliseconds=50)
_WARN = timedelta(seconds=1)

# An instant of the database's clock and the monotonic seconds at which it was; None while the machine's is right.
_kept: tuple[datetime, float] | None = None


class Clock(Protocol):
    def now(self) -> datetime: ...


class SystemClock:
    """The standard clock."""

    def now(self) -> datetime:
        kept = _kept
        if kept is None:
            return datetime.now(UTC)
        return kept[0] + timedelta(seconds=monotonic() - kept[1])


def compare(*, database: datetime, asked: float, answered: float) -> None:
    """Hold the standard clock against what PostgreSQL answered between two monotonic instants (seconds)."""
    global _kept  # noqa: PLW0603 — one clock per process
    # Whoever is interrupted here must not take the pause for a difference: it is doubt, as the way is.
    before = monotonic()
    standard, machine = SystemClock().now(), datetime.now(UTC)
    after = monotonic()
    middle = (asked + answered) / 2
    late = timedelta(seconds=(before + after) / 2 - middle)
    doubt = timedelta(seconds=(answered - asked + after - before) / 2) + _AGREE
    if abs(standard - late - database) > doubt:
        _kept = (database.astimezone(UTC), middle)
    off = machine - late - database
    if abs(off) > doubt + _WARN:
        logger.warning("this machine's clock is wrong", extra={"seconds": round(off.total_seconds(), 1)})


@cache
def _clock() -> Clock:
    clock: Clock = import_string(settings.CLOCK)()
    return clock


def now() -> datetime:
    """The business instant, aware, in UTC."""
    return _clock().now()
