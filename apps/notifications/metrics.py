"""Gauges of the reader. Digests are work: they stand in `tranche_work_items`."""

from collections.abc import Iterator

from django.db import connection

from apps.core.metrics import Sample, gauge
from apps.notifications.models import Untold
from apps.notifications.reading import READER


@gauge(
    "tranche_notifications_unread_events",
    "Events that the mail reader has not come to yet, counted up to 10,000.",
)
def _unread() -> Iterator[Sample]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT 1 FROM notifications_reader AS reader JOIN events_event AS event"
            " ON (event.xid, event.id) > (reader.xid::text::xid8, reader.event_id)"
            " WHERE reader.name = %s LIMIT 10000) AS unread",
            [READER],
        )
        yield (), float(cursor.fetchone()[0])


@gauge(
    "tranche_notifications_untold_events", "Events that no mail could be made of: an operator has to look."
)
def _untold() -> Iterator[Sample]:
    yield (), float(Untold.objects.count())
