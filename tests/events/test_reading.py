"""Reading the whole log: nothing is passed unseen, whoever commits when."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from django.db import connection, transaction

from apps.core.ids import uuid7
from apps.events.selectors import EventCursor, events_after
from apps.events.services import EventDraft, events_publish

pytestmark = pytest.mark.django_db(transaction=True)


def publish(count: int = 1, subject: UUID | None = None) -> None:
    with transaction.atomic():
        events_publish(
            [EventDraft("t.happened", "person", subject or uuid7(), {"n": n}) for n in range(count)]
        )


@contextmanager
def slow_writer() -> Iterator[None]:
    """Another connection that has written an event and commits only at the end of the block."""
    written, done = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            events_publish([EventDraft("t.slow", "person", uuid7())])
            written.set()
            done.wait(20)
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    assert written.wait(20)
    # Ids of one millisecond are in no order.
    time.sleep(0.001)
    try:
        yield
    finally:
        done.set()
        thread.join()


def read_by_id(after: UUID) -> list[tuple[UUID, str]]:
    """The reader that one would write first: ids are made in time, so go on after the last one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, topic FROM events_event WHERE id > %s ORDER BY id", [after])
        return list(cursor.fetchall())


def test_without_the_guard_an_older_transaction_is_passed_for_ever() -> None:
    with slow_writer():
        publish()
        seen = read_by_id(UUID(int=0))
    seen += read_by_id(seen[-1][0])

    assert [topic for _, topic in seen] == [
        "t.happened"
    ]  # "t.slow" is committed, and nobody will ever read it


def test_with_the_guard_it_is_waited_for() -> None:
    with slow_writer():
        publish()
        assert events_after(EventCursor(), 10) == []
    first = events_after(EventCursor(), 1)
    rest = events_after(first[-1].cursor, 10)

    assert [event.topic for event in first + rest] == ["t.slow", "t.happened"]
    assert events_after(rest[-1].cursor, 10) == []


def test_readers_see_all_once_while_many_write() -> None:
    stop, total = threading.Event(), []

    def write(seed: int) -> None:
        count = 0
        for number in range(12):
            with transaction.atomic():
                events_publish(
                    [EventDraft("t.x", "person", uuid7(), {}) for _ in range(1 + (seed + number) % 4)]
                )
                count += 1 + (seed + number) % 4
        total.append(count)
        connection.close()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    seen, place = [], EventCursor()
    while not stop.is_set():
        alive = any(writer.is_alive() for writer in writers)
        events = events_after(place, 7)
        seen += [event.id for event in events]
        place = events[-1].cursor if events else place
        if not alive and not events:
            stop.set()

    assert len(seen) == len(set(seen)) == sum(total)


def test_the_read_uses_its_index() -> None:
    publish(3)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "EXPLAIN SELECT id FROM events_event WHERE (xid, id) > ('5'::xid8, %s::uuid)"
            " AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, id LIMIT 10",
            [UUID(int=0)],
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Index Only Scan" in plan
    assert "Seq Scan" not in plan
    assert "->  Sort" not in plan
