"""Writing events: in the caller's transaction, many at once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from apps.core import bulk, clock
from apps.core.ids import uuid7_many
from apps.events.wake import people_wake


@dataclass(frozen=True)
class EventDraft:
    """A fact to be written: topic in past tense, whom it concerns, what it is about, and its payload (JSON)."""

    topic: str
    subject_type: str
    subject_id: UUID
    payload: Mapping[str, Any] = field(default_factory=dict)
    object_type: str = ""
    object_id: UUID | None = None


def events_publish(drafts: Sequence[EventDraft]) -> None:
    """Append events in order; sequence numbers per subject continue without gaps.

    Must run inside the transaction of the change. Heads are locked in subject order, so that two publishers
    cannot deadlock, and stay locked until the commit: a lower number never becomes visible after a higher one.
    Two statements, whatever the number of events; after the commit, one word to the live streams.
    """
    if not drafts:
        return
    if not connection.in_atomic_block:
        raise RuntimeError("events belong in the transaction of the change they tell of")
    counts: dict[tuple[str, UUID], int] = defaultdict(int)
    for draft in drafts:
        counts[draft.subject_type, draft.subject_id] += 1
    subjects = sorted(counts)
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO events_eventhead AS head (id, subject_type, subject_id, sequence)"
            " SELECT * FROM unnest(%s::uuid[], %s::text[], %s::uuid[], %s::bigint[])"
            " ON CONFLICT (subject_type, subject_id)"
            " DO UPDATE SET sequence = head.sequence + EXCLUDED.sequence"
            " RETURNING subject_type, subject_id, sequence",
            [
                bulk.uuids(uuid7_many(len(subjects), now)),
                bulk.array([subject[0] for subject in subjects]),
                bulk.uuids(subject[1] for subject in subjects),
                bulk.array([counts[subject] for subject in subjects]),
            ],
        )
        following = {(row[0], row[1]): row[2] - counts[row[0], row[1]] + 1 for row in cursor.fetchall()}
    sequences = []
    for draft in drafts:
        key = (draft.subject_type, draft.subject_id)
        sequences.append(following[key])
        following[key] += 1
    bulk.insert(
        "events_event",
        {
            "id": uuid7_many(len(drafts), now),
            "topic": [draft.topic for draft in drafts],
            "subject_type": [draft.subject_type for draft in drafts],
            "subject_id": [draft.subject_id for draft in drafts],
            "sequence": sequences,
            "object_type": [draft.object_type for draft in drafts],
            "object_id": [draft.object_id for draft in drafts],
            "payload": [orjson.dumps(draft.payload).decode() for draft in drafts],
            "occurred_at": [now] * len(drafts),
        },
    )
    people_wake([subject_id for subject_type, subject_id in subjects if subject_type == "person"])
