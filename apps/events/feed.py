"""A person's events by sequence: what the live stream and `GET /events` read.

Sequences have no gaps, and the head's lock is held to the commit (`events_publish`): whoever sees n sees all below n.
So "after n, in order" is all that a reader has to ask, in one statement, and a reader that asks again from the last
number it has seen misses nothing and sees nothing twice, whatever is being written meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from apps.core import bulk

PERSON = "person"
_COLUMNS = "sequence, id, topic, object_type, object_id, payload::text, occurred_at"


@dataclass(frozen=True, slots=True)
class PersonEvent:
    """One fact; `payload` is JSON text, as PostgreSQL writes it: on one line."""

    sequence: int
    id: UUID
    topic: str
    object_type: str
    object_id: UUID | None
    payload: str
    occurred_at: datetime

    def document(self) -> dict[str, Any]:
        """What a client is given, by the stream and by `GET /events` alike; for `orjson`."""
        about = {"type": self.object_type, "id": str(self.object_id)} if self.object_id else None
        return {
            "id": str(self.id),
            "sequence": self.sequence,
            "topic": self.topic,
            "occurred_at": self.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "object": about,
            "payload": orjson.Fragment(self.payload),
        }


def heads(*, user_ids: Sequence[UUID]) -> dict[UUID, int]:
    """The last sequence of each person who has events. One index look-up each, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT subject_id, sequence FROM events_eventhead"
            " WHERE subject_type = 'person' AND subject_id = ANY(%s::uuid[])",
            [bulk.uuids(user_ids)],
        )
        return dict(cursor.fetchall())


def events_following(*, places: Sequence[tuple[UUID, int]], limit: int) -> list[list[PersonEvent]]:
    """For each (person, sequence) up to `limit` of the person's events after it, in order. One statement."""
    found: list[list[PersonEvent]] = [[] for _ in places]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT place.number, event.* FROM unnest(%s::uuid[], %s::bigint[]) WITH ORDINALITY"
            " AS place (user_id, seen, number)"
            f" CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM events_event WHERE subject_type = 'person'"
            " AND subject_id = place.user_id AND sequence > place.seen ORDER BY sequence LIMIT %s) AS event"
            " ORDER BY place.number, event.sequence",
            [bulk.uuids(user_id for user_id, _ in places), bulk.array([seen for _, seen in places]), limit],
        )
        for number, *columns in cursor.fetchall():
            found[number - 1].append(PersonEvent(*columns))
    return found


def sequence_of(*, user_id: UUID, event_id: UUID) -> int:
    """The number of a person's event; 0 when there is no such event."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sequence FROM events_event WHERE id = %s AND subject_type = 'person' AND subject_id = %s",
            [event_id, user_id],
        )
        row = cursor.fetchone()
    return int(row[0]) if row else 0
