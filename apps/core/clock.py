"""Time is a dependency: business code asks `now()`, never the operating system.

`settings.CLOCK` names the class that answers. Production has the system's clock; the sandbox and the tests have
one that can be turned. Leases do not use this clock but PostgreSQL's (see `apps.core.work`).
"""

from datetime import UTC, datetime
from functools import cache
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string


class Clock(Protocol):
    def now(self) -> datetime: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@cache
def _clock() -> Clock:
    clock: Clock = import_string(settings.CLOCK)()
    return clock


def now() -> datetime:
    """The business instant, aware, in UTC."""
    return _clock().now()
