"""Wakes the live streams of people who have news, through Redis. Losing a word costs a second.

What is said names people, nobody's events: a stream process reads those itself, from the log. A commit that tells of
many people says "everybody" instead, which costs each process one statement.
"""

import logging
import time
from collections.abc import Collection
from functools import cache, partial
from uuid import UUID

import redis
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

CHANNEL = "tranche.events"
# Ids of 16 bytes, one after the other; longer lists would cost Redis and every process more than a look at all.
NAMED_MAX = 256
EVERYBODY = b"*"
_ID_BYTES = 16
_TIMEOUT_SECONDS = 0.3
# While Redis is away nobody waits for it more than once in this time.
_REST_SECONDS = 5.0
_resting_until = 0.0


def people_wake(user_ids: Collection[UUID]) -> None:
    """Say, once the current transaction has committed, that these people have news; never fails the caller."""
    if user_ids:
        named = len(user_ids) <= NAMED_MAX
        message = b"".join(user_id.bytes for user_id in user_ids) if named else EVERYBODY
        transaction.on_commit(partial(_say, message))


def people_named(message: bytes) -> list[bytes] | None:
    """The ids in a message, 16 bytes each; None for everybody, and for what cannot be read."""
    if message == EVERYBODY or len(message) % _ID_BYTES:
        return None
    return [message[start : start + _ID_BYTES] for start in range(0, len(message), _ID_BYTES)]


def _say(message: bytes) -> None:
    global _resting_until  # noqa: PLW0603
    if time.monotonic() < _resting_until:
        return
    try:
        _client().publish(CHANNEL, message)
    except (redis.RedisError, OSError) as error:
        _resting_until = time.monotonic() + _REST_SECONDS
        logger.warning("live streams not woken", extra={"error": type(error).__name__})


@cache
def _client() -> redis.Redis:
    # Once again, for a kept connection that Redis has closed meanwhile.
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )
