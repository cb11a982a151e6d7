"""Reading the whole log in an order in which nothing comes late."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

NIL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class EventCursor:
    """A place in the log: after the event `id` of the transaction `xid`. `EventCursor()` is the beginning."""

    xid: int = 0
    id: UUID = NIL


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One fact with its place. `payload` is what JSON says."""

    xid: int
    id: UUID
    topic: str
    subject_type: str
    subject_id: UUID
    sequence: int
    object_type: str
    object_id: UUID | None
    payload: Any
    occurred_at: datetime

    @property
    def cursor(self) -> EventCursor:
        return EventCursor(self.xid, self.id)


def events_after(cursor: EventCursor, limit: int) -> list[LoggedEvent]:
    """Up to `limit` events after `cursor`, in an order that never changes: by transaction, then by id.

    Only transactions that are older than every one still running are read, so that none of them can add an event
    before a place that was passed: no gap, no repetition, whatever commits meanwhile. The price: a transaction that
    takes long delays what is younger (it cannot take longer than its timeouts allow). Two events of one person may come
    in another order than their sequence says, when they were written at once. Index: events_event_xid.
    """
    with connection.cursor() as sql:
        sql.execute(
            "SELECT xid::text::bigint, id, topic, subject_type, subject_id, sequence, object_type, object_id,"
            " payload::text, occurred_at FROM events_event"
            " WHERE (xid, id) > (%s::text::xid8, %s::uuid)"
            " AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, id LIMIT %s",
            [str(cursor.xid), cursor.id, limit],
        )
        rows: list[tuple[Any, ...]] = sql.fetchall()
    return [LoggedEvent(*(*row[:8], orjson.loads(row[8]), row[9])) for row in rows]
