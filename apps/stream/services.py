"""Writes: which streams are open. The clock is the database's, since processes compare each other's instants."""

from collections.abc import Sequence
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from apps.accounts.models import User
from apps.core import bulk
from apps.core.api.problems import ProblemError
from apps.core.errors import NotFound
from apps.core.ids import uuid7
from apps.stream.models import OpenStream
from apps.stream.selectors import ALIVE

RETRY_AFTER_SECONDS = 5


def stream_open(*, user_id: UUID, process_id: UUID) -> UUID:
    """Note a stream and return its id. Raises `ProblemError` `too_many_streams` when the person has the most allowed.

    The person's row is the lock under which streams are counted, over all processes.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if not User.objects.select_for_update(no_key=True).filter(pk=user_id, is_active=True).exists():
            raise NotFound
        cursor.execute(
            "SELECT count(*) FROM stream_openstream AS open WHERE user_id = %s AND (process_id = %s OR EXISTS"
            f" (SELECT FROM stream_streamprocess AS process WHERE process.id = open.process_id AND {ALIVE}))",
            [user_id, process_id],
        )
        if cursor.fetchone()[0] >= settings.STREAMS_PER_PERSON:
            raise ProblemError(
                "too_many_streams",
                f"You have {settings.STREAMS_PER_PERSON} live streams open already: close one first.",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        stream = OpenStream.objects.create(id=uuid7(), user_id=user_id, process_id=process_id)
    return stream.pk


def streams_forget(*, stream_ids: Sequence[UUID]) -> None:
    """These connections are over."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM stream_openstream WHERE id = ANY(%s::uuid[])", [bulk.uuids(stream_ids)])


def process_note(*, process_id: UUID, name: str) -> None:
    """This process lives; what processes left behind that have long been dead is swept away."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO stream_streamprocess (id, name, seen_at) VALUES (%s, %s, clock_timestamp())"
            " ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()",
            [process_id, name[:100]],
        )
        cursor.execute(
            "DELETE FROM stream_streamprocess WHERE seen_at < clock_timestamp() - interval '1 minute'"
        )
        cursor.execute(
            "DELETE FROM stream_openstream AS open WHERE process_id <> %s AND NOT EXISTS"
            " (SELECT FROM stream_streamprocess AS process WHERE process.id = open.process_id)"
            " AND opened_at < clock_timestamp() - interval '1 minute'",
            [process_id],
        )


def process_forget(*, process_id: UUID) -> None:
    """It ends, and its streams with it."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM stream_openstream WHERE process_id = %s", [process_id])
        cursor.execute("DELETE FROM stream_streamprocess WHERE id = %s", [process_id])
