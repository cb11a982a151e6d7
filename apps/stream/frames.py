"""Server-sent events on the wire (HTML standard, section 9.2.6)."""

from collections.abc import Iterable

import orjson

from apps.events.feed import PersonEvent

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    # no-transform: a proxy that compresses would hold events back until its window is full.
    "Cache-Control": "no-store, no-transform",
    # nginx, and those who learned from it, pass each piece on at once.
    "X-Accel-Buffering": "no",
}
# A comment: keeps proxies from taking a quiet stream for a dead one, and finds connections that are.
HEARTBEAT = b":\n\n"


def greeting(*, place: int, retry_milliseconds: int) -> bytes:
    """The first piece: how soon to come back, and from where.

    A block without data is dispatched to nobody, but its id is kept: who loses the connection before the first event
    still resumes without a gap.
    """
    return b"retry: %d\nid: %d\n\n" % (retry_milliseconds, place)


def events(rows: Iterable[PersonEvent]) -> bytes:
    return b"".join(
        b"id: %d\nevent: %s\ndata: %s\n\n" % (row.sequence, row.topic.encode(), orjson.dumps(row.document()))
        for row in rows
    )


def farewell(*, reason: str, retry_milliseconds: int) -> bytes:
    """The last piece of a stream that we end. No id: the client's place stays what it was."""
    return b"retry: %d\nevent: stream.closed\ndata: %s\n\n" % (
        retry_milliseconds,
        orjson.dumps({"reason": reason}),
    )
