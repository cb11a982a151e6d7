"""Reads: how many streams are open, and a person's events for those who ask instead of listening."""

from uuid import UUID

from django.db import connection

from apps.core.api.pagination import Cursor, Page, PageQuery, page_cut
from apps.events.feed import PersonEvent, events_following, heads, sequence_of

# Of a row `process`: three times what lies between two notes (`apps.stream.hub`).
ALIVE = "process.seen_at > clock_timestamp() - interval '15 seconds'"


def streams_count() -> tuple[int, int]:
    """Streams that are open, and the living processes that serve them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(open.id), count(DISTINCT process.id) FROM stream_streamprocess AS process"
            f" LEFT JOIN stream_openstream AS open ON open.process_id = process.id WHERE {ALIVE}"
        )
        streams, processes = cursor.fetchone()
    return streams, processes


def person_head(*, user_id: UUID) -> int:
    """The sequence of the person's latest event; 0 without any."""
    return heads(user_ids=[user_id]).get(user_id, 0)


def events_page(*, user_id: UUID, query: PageQuery, after: int) -> Page[PersonEvent]:
    """A person's events after a sequence, the oldest first."""
    if query.cursor is not None:
        after = max(after, sequence_of(user_id=user_id, event_id=query.cursor.id))
    (found,) = events_following(places=[(user_id, after)], limit=query.limit + 1)
    return page_cut(found, limit=query.limit, place=lambda row: Cursor(row.occurred_at, row.id))
