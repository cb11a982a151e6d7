"""Reading a person's events by sequence: one statement for any number of people."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.core.ids import uuid7
from apps.events import feed
from apps.events.services import EventDraft, events_publish

pytestmark = pytest.mark.django_db


def test_each_place_gets_what_follows_it(django_assert_num_queries: Callable[[int], Any]) -> None:
    one, other, silent = uuid7(), uuid7(), uuid7()
    with transaction.atomic():
        events_publish(
            [EventDraft("plan.paused", "person", who, {"n": n}) for n in range(5) for who in (one, other)]
        )
        events_publish([EventDraft("network.halted", "network", one)])

    with django_assert_num_queries(1):
        found = feed.events_following(places=[(one, 3), (silent, 0), (other, 0), (one, 0), (one, 5)], limit=3)

    assert [[row.sequence for row in rows] for rows in found] == [[4, 5], [], [1, 2, 3], [1, 2, 3], []]
    assert orjson.loads(orjson.dumps(found[0][0].document()))["payload"] == {"n": 3}
    with django_assert_num_queries(1):
        assert feed.heads(user_ids=[one, other, silent]) == {one: 5, other: 5}


def test_both_reads_walk_their_index() -> None:
    """With tables that are large: the planner is kept from reading them whole."""
    with CaptureQueriesContext(connection) as asked:
        feed.heads(user_ids=[uuid7()])
        feed.events_following(places=[(uuid7(), 5)], limit=50)

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query, index in zip(
            asked.captured_queries, ("events_head_subject", "subject_type_subject_id_sequence"), strict=True
        ):
            cursor.execute("EXPLAIN " + query["sql"])
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert index in plan, plan
            assert "Seq Scan" not in plan
