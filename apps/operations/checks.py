"""Is this process ready to serve? Each dependency is asked the smallest question, and timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connection, connections
from django.db.migrations.executor import MigrationExecutor

TIMEOUT_SECONDS = 2


@dataclass(frozen=True)
class Check:
    """`error` is the kind of failure, never its text: that may name hosts and people."""

    name: str
    ok: bool
    milliseconds: float
    error: str = ""


class NotReadyError(Exception):
    """The dependency answers and is not in the state that we need."""


def _postgresql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _redis() -> None:
    timeouts = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    with redis.Redis.from_url(settings.REDIS_URL, **timeouts) as client:
        client.ping()


_migrated = False


def _migrations() -> None:
    """Once applied they stay applied for this process's code, so the graph is built until then only."""
    global _migrated  # noqa: PLW0603
    if _migrated:
        return
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise NotReadyError("unapplied migrations")
    _migrated = True


def _run(name: str, check: Callable[[], None]) -> Check:
    started = time.perf_counter()
    error = ""
    try:
        check()
    except (Error, redis.RedisError, NotReadyError, OSError) as failure:
        error = type(failure).__name__
    return Check(name, not error, round((time.perf_counter() - started) * 1000, 2), error)


def readiness_check() -> list[Check]:
    """Every check, in a fixed order; none stops the others."""
    return [_run("postgresql", _postgresql), _run("redis", _redis), _run("migrations", _migrations)]
