"""What allauth counts and remembers for a while, kept in PostgreSQL: a flushed Redis must open no door.

allauth asks Django's default cache, which here is Redis, how often something was tried and whether a token was used
already. `install` gives those modules this cache instead. It takes part in the request's transaction, so that a count
is kept exactly when the request's other effects are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any

import orjson
from allauth.core.internal.ratelimit import Rate
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import connection

# Every write sweeps this many entries that are over: the table cannot grow without bound, and needs no sweeper.
_SWEPT = 10
_KEY_LENGTH = 200


class PostgresCache(BaseCache):
    """The five calls that allauth makes. Values are JSON; the time is the database's."""

    def __init__(self) -> None:
        super().__init__({"timeout": 300})

    def add(
        self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Whether the entry is new; one that is over does not count. Two at once: one is told True."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO accounts_signinmark AS mark (key, value, expires_at)"
                " VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))"
                " ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at"
                " WHERE mark.expires_at <= clock_timestamp()",
                [_name(key), orjson.dumps(value).decode(), self._lasting(timeout)],
            )
            return bool(cursor.rowcount)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT value::text FROM accounts_signinmark WHERE key = %s AND expires_at > clock_timestamp()",
                [_name(key)],
            )
            row = cursor.fetchone()
        return default if row is None else orjson.loads(row[0])

    def set(
        self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM accounts_signinmark WHERE key IN (SELECT key FROM accounts_signinmark"
                " WHERE expires_at <= clock_timestamp() AND key <> %s ORDER BY expires_at LIMIT %s"
                " FOR UPDATE SKIP LOCKED)",
                [_name(key), _SWEPT],
            )
            cursor.execute(
                "INSERT INTO accounts_signinmark (key, value, expires_at)"
                " VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))"
                " ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at",
                [_name(key), orjson.dumps(value).decode(), self._lasting(timeout)],
            )

    def delete(self, key: str, version: int | None = None) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM accounts_signinmark WHERE key = %s", [_name(key)])
            return bool(cursor.rowcount)

    def take(self, key: str) -> bool:
        """Whether the entry was there and not over; it is gone after. Of two at once, one is told True."""
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM accounts_signinmark WHERE key = %s AND expires_at > clock_timestamp()",
                [_name(key)],
            )
            return bool(cursor.rowcount)

    def _lasting(self, timeout: Any) -> float:
        return float(self.default_timeout or 0) if timeout is DEFAULT_TIMEOUT else float(timeout)


def _name(key: str) -> str:
    """Some keys hold what a caller sent (the id of a token): none is longer than the column."""
    return key if len(key) <= _KEY_LENGTH else sha256(key.encode()).hexdigest()


MARKS = PostgresCache()

_waits: ContextVar[list[float] | None] = ContextVar("allauth_limits_met", default=None)


@contextmanager
def limits_met() -> Iterator[list[float]]:
    """Inside, each limit of allauth's that is full is noted: in how many seconds it lets somebody through again."""
    found: list[float] = []
    outside = _waits.set(found)
    try:
        yield found
    finally:
        _waits.reset(outside)


def install() -> None:
    """Called once, by the AppConfig."""
    from allauth.core.internal import ratelimit
    from allauth.socialaccount.internal import jwtkit

    for module in (ratelimit, jwtkit):
        module.cache = MARKS
    apply_rate = ratelimit.apply_rate

    def noted(history: list[float], now: float, rate: Rate, **kwargs: Any) -> tuple[bool, list[float]]:
        allowed, kept = apply_rate(history, now, rate, **kwargs)
        waits = _waits.get()
        if waits is not None and len(kept) >= rate.amount:
            # The oldest stands last.
            waits.append(kept[rate.amount - 1] + rate.duration - now)
        return allowed, kept

    ratelimit.apply_rate = noted
