"""How often anybody may ask: never more than a quota within any window, counted together by all web processes.

`settings.API_LIMITS` holds the policies ("10/second"). Redis counts, one script per request (a moving window: the
instants of the last admitted requests), so that no number of processes and concurrent requests gets more than the
quota. When Redis is away, what is counted with `hit` passes, and a log line and a metric say so: the API goes on. What
is counted with `hit_firmly` (sign-in: guessing passwords) is counted by PostgreSQL as well, with the same window, and
is held without Redis, after a flush, and while Redis comes and goes.

Headers: draft-ietf-httpapi-ratelimit-headers-10.
"""

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import redis
from django.conf import settings
from django.db import connection
from limits import RateLimitItem, parse
from prometheus_client import Counter
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import RedisError
from redis.retry import Retry

from apps.core.api.problems import ProblemError

logger = logging.getLogger(__name__)

REFUSED = Counter("api_limit_refused", "Requests answered with 429.", ["policy"])
UNCOUNTED = Counter("api_limit_uncounted", "Requests that passed since Redis was away.", ["policy"])

# A Redis that does not answer may cost a request this much, and then nobody asks it for a second.
_TIMEOUT_SECONDS = 0.25
_REST_SECONDS = 1.0
_rests_until = 0.0

# `limits` counts and looks in two scripts: the second trip was a tenth of a request's time. Times are texts: a Lua
# number loses its fraction on the way out. Answers whether one more was admitted, how many are in the window, and when
# the oldest of them was. What has left the window is dropped one by one, so that a call costs the same for any quota.
_COUNT = """
local now, quota, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = redis.call('LINDEX', KEYS[1], -1)
while oldest and tonumber(oldest) < now - window do
  redis.call('RPOP', KEYS[1])
  oldest = redis.call('LINDEX', KEYS[1], -1)
end
local count = redis.call('LLEN', KEYS[1])
local admitted = count < quota
if admitted then
  redis.call('LPUSH', KEYS[1], ARGV[1])
  redis.call('EXPIRE', KEYS[1], window)
  count = count + 1
end
return {admitted and 1 or 0, count, oldest or ARGV[1]}
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One count. `remaining` requests are left in the window; another is possible after `reset_seconds` at most."""

    policy: str
    quota: int
    window_seconds: int
    allowed: bool
    remaining: int
    reset_seconds: int


def hit(policy: str, subject: str) -> Verdict:
    """Count one request of `subject`; allowed without counting while Redis is away."""
    item = _item(policy)
    verdict = _by_redis(policy, item, subject)
    if verdict is None:
        UNCOUNTED.labels(policy).inc()
        return _verdict(policy, item, allowed=True, remaining=item.amount)
    return _noted(verdict)


def hit_firmly(policy: str, subject: str) -> Verdict:
    """Count one request of `subject`, whatever becomes of Redis. Raises `django.db.Error` without a database.

    Redis is asked first, so that a flood it refuses costs PostgreSQL nothing.
    """
    item = _item(policy)
    verdict = _by_redis(policy, item, subject)
    if verdict is None or verdict.allowed:
        verdict = _by_postgresql(policy, item, subject)
    return _noted(verdict)


def headers(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` of an answer that was counted under these policies."""
    counted = list(verdicts)
    return {
        "RateLimit-Policy": ", ".join(
            f'"{one.policy}";q={one.quota};w={one.window_seconds}' for one in counted
        ),
        "RateLimit": ", ".join(f'"{one.policy}";r={one.remaining};t={one.reset_seconds}' for one in counted),
    }


def refusal(verdict: Verdict) -> ProblemError:
    """The 429 of a verdict that does not allow."""
    detail = f"At most {verdict.quota} requests in {verdict.window_seconds} s. Try again later."
    return ProblemError("throttled", detail, headers={"Retry-After": str(verdict.reset_seconds)})


def rate_windows_purge(*, limit: int = 50_000) -> int:
    """Delete what nobody has added to for an hour, longer than any window; up to `limit` rows, returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM core_ratewindow WHERE key IN (SELECT key FROM core_ratewindow"
            " WHERE hits[1] < clock_timestamp() - interval '1 hour' LIMIT %s FOR UPDATE SKIP LOCKED)",
            [limit],
        )
        return int(cursor.rowcount)


def _item(policy: str) -> RateLimitItem:
    return _parsed(settings.API_LIMITS[policy])


@cache
def _parsed(text: str) -> RateLimitItem:
    return parse(text)


@cache
def _script(url: str) -> Script:
    client = redis.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        # Once more, at once: the connection may be one that a restarted Redis has forgotten.
        retry=Retry(NoBackoff(), 1),
    )
    return client.register_script(_COUNT)


def _by_redis(policy: str, item: RateLimitItem, subject: str) -> Verdict | None:
    """`None` while Redis is away."""
    global _rests_until  # noqa: PLW0603
    if time.monotonic() < _rests_until:
        return None
    now, window = time.time(), item.get_expiry()
    try:
        admitted, count, oldest = _script(settings.REDIS_URL)(
            keys=[f"limit:{policy}:{subject}"], args=[repr(now), item.amount, window]
        )
    except RedisError as error:
        _rests_until = time.monotonic() + _REST_SECONDS
        logger.warning("limits without Redis", extra={"policy": policy, "error": type(error).__name__})
        return None
    remaining = max(0, item.amount - count)
    reset_seconds = math.ceil(float(oldest) + window - now)
    return _verdict(policy, item, allowed=bool(admitted), remaining=remaining, reset_seconds=reset_seconds)


def _by_postgresql(policy: str, item: RateLimitItem, subject: str) -> Verdict:
    """The same moving window: the instants of the last admitted requests, the newest first, under the row's lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO core_ratewindow AS kept (key, hits) VALUES (%(key)s, ARRAY[clock_timestamp()])"
            " ON CONFLICT (key) DO UPDATE SET hits = (clock_timestamp() || kept.hits)[1:%(quota)s]"
            " WHERE coalesce(kept.hits[%(quota)s], '-infinity') < clock_timestamp() - %(window)s * interval '1 second'"
            " RETURNING (SELECT count(*) FROM unnest(hits) AS one"
            " WHERE one >= clock_timestamp() - %(window)s * interval '1 second')",
            {"key": f"{policy}:{subject}", "quota": item.amount, "window": item.get_expiry()},
        )
        row = cursor.fetchone()
    remaining = max(0, item.amount - row[0]) if row else 0
    return _verdict(policy, item, allowed=row is not None, remaining=remaining)


def _verdict(
    policy: str, item: RateLimitItem, *, allowed: bool, remaining: int, reset_seconds: int | None = None
) -> Verdict:
    window = item.get_expiry()
    reset = window if reset_seconds is None else min(max(1, reset_seconds), window)
    return Verdict(policy, item.amount, window, allowed, remaining, reset)


def _noted(verdict: Verdict) -> Verdict:
    if not verdict.allowed:
        REFUSED.labels(verdict.policy).inc()
    return verdict
