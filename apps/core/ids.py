"""UUIDv7 ids whose time is `clock.now()`: rows sort by creation and partition by month on their key alone."""

import secrets
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import uuid_utils

from apps.core import clock

_TAIL_BITS = 74  # rand_a (12) and rand_b (62) of RFC 9562, section 5.7


def uuid7(at: datetime | None = None) -> uuid.UUID:
    """A new id (RFC 9562, section 5.7). `at` defaults to now; milliseconds are kept."""
    moment = at or clock.now()
    nanoseconds = int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000
    return uuid.UUID(int=uuid_utils.uuid7(nanoseconds=nanoseconds).int)


def uuid7_many(count: int, at: datetime | None = None) -> list[uuid.UUID]:
    """`count` ids of one instant in strictly ascending order, so that creation order survives a bulk insert.

    The 74 random bits start at a random place in their lower half and grow by random steps.
    """
    base = uuid7_floor(at or clock.now()).int
    tail = secrets.randbits(_TAIL_BITS - 1)
    room = ((1 << (_TAIL_BITS - 1)) - 1) // max(count, 1)
    step = 1 + secrets.randbelow(min(room, 1 << 40))
    ids = []
    for _ in range(count):
        ids.append(uuid.UUID(int=base | ((tail >> 62) << 64) | (tail & ((1 << 62) - 1))))
        tail += step
    return ids


def uuid7_hexes(count: int, at: datetime) -> Iterator[str]:
    """Like `uuid7_many` as 32 hex digits: for rows that are written as text, without a UUID object for each.

    Only the lowest 62 random bits rise; `count` may be up to 2^20.
    """
    first = uuid7_floor(at).int | secrets.randbits(12) << 64 | secrets.randbits(61)
    step = 1 + secrets.randbits(40)
    for number in range(first, first + count * step, step):
        yield f"{number:032x}"


def uuid7_floor(at: datetime) -> uuid.UUID:
    """The smallest UUIDv7 of an instant: a bound for range scans and partitions."""
    milliseconds = int(at.timestamp()) * 1000 + at.microsecond // 1000
    return uuid.UUID(int=(milliseconds << 80) | (0x7 << 76) | (0b10 << 62))


def uuid7_time(value: uuid.UUID) -> datetime:
    """The instant inside a UUIDv7, to the millisecond, in UTC."""
    milliseconds = value.int >> 80
    return datetime.fromtimestamp(milliseconds // 1000, tz=UTC).replace(
        microsecond=milliseconds % 1000 * 1000
    )
