from datetime import UTC, datetime

import pytest
from django.db import connection

from apps.core import partitions
from apps.core.ids import uuid7
from apps.events.models import Event

pytestmark = pytest.mark.django_db(transaction=True)


def event_at(at: datetime) -> str:
    """Write an event at an instant; answers the partition that it fell into."""
    row = Event.objects.create(
        id=uuid7(at), topic="test.happened", subject_type="person", subject_id=uuid7(at), sequence=1
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM events_event WHERE id = %s", [row.pk])
        return str(cursor.fetchone()[0])


def test_months_are_made_ahead_once_and_rows_fall_into_theirs() -> None:
    at = datetime(2031, 12, 15, tzinfo=UTC)

    first = partitions.ensure(at=at, months_ahead=2)
    again = partitions.ensure(at=at, months_ahead=2)

    mine = [name for name in first if name.startswith("events_event")]
    assert mine == [
        "events_event_2031_11",
        "events_event_2031_12",
        "events_event_2032_01",
        "events_event_2032_02",
    ]
    assert again == []
    assert event_at(datetime(2031, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)) == "events_event_2031_12"
    assert event_at(datetime(2032, 1, 1, tzinfo=UTC)) == "events_event_2032_01"


def test_a_row_of_a_month_without_partition_is_kept_and_reported() -> None:
    assert event_at(datetime(2040, 5, 5, tzinfo=UTC)) == "events_event_default"

    assert partitions.default_rows() == {"events_event": 1}
    # Its month is left to an operator: PostgreSQL would refuse a partition that overlaps these rows.
    made = partitions.ensure(at=datetime(2040, 5, 6, tzinfo=UTC), months_ahead=1)
    assert "events_event_2040_05" not in made
    assert "events_event_2040_06" in made
