import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction

from apps.core.ids import uuid7
from apps.events.models import Event
from apps.events.services import EventDraft, events_publish

pytestmark = pytest.mark.django_db(transaction=True)


def drafts(subject: UUID, count: int, topic: str = "execution.settled") -> list[EventDraft]:
    return [EventDraft(topic, "person", subject, {"n": n}) for n in range(count)]


def sequences(subject: UUID) -> list[int]:
    return list(Event.objects.filter(subject_id=subject).order_by("id").values_list("sequence", flat=True))


def millisecond_pass() -> None:
    """Ids of one millisecond, of different commits, are in no order."""
    time.sleep(0.001)


def test_sequences_count_per_subject_without_gaps() -> None:
    one, two = uuid7(), uuid7()
    with transaction.atomic():
        events_publish([*drafts(one, 2), *drafts(two, 1), *drafts(one, 1)])
    millisecond_pass()
    with transaction.atomic():
        events_publish(drafts(two, 2))

    assert sequences(one) == [1, 2, 3]
    assert sequences(two) == [1, 2, 3]
    payloads = Event.objects.filter(subject_id=one).order_by("sequence").values_list("payload", flat=True)
    assert list(payloads) == [{"n": 0}, {"n": 1}, {"n": 0}]


def test_a_rolled_back_change_leaves_no_event_and_no_gap() -> None:
    subject = uuid7()
    with transaction.atomic():
        events_publish(drafts(subject, 3))
        transaction.set_rollback(True)
    with transaction.atomic():
        events_publish(drafts(subject, 1))

    assert sequences(subject) == [1]


def test_outside_a_transaction_nothing_is_published() -> None:
    with pytest.raises(RuntimeError, match="in the transaction"):
        events_publish(drafts(uuid7(), 1))

    assert Event.objects.count() == 0


def test_any_number_of_events_costs_two_statements(
    django_assert_num_queries: Callable[[int], Any],
) -> None:
    with transaction.atomic(), django_assert_num_queries(2):
        events_publish([draft for _ in range(50) for draft in drafts(uuid7(), 4)])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events_event SET topic = 'x'",
        "DELETE FROM events_event",
        "TRUNCATE events_event",
        "TRUNCATE events_event_default",
    ],
)
def test_history_cannot_be_changed(statement: str) -> None:
    with transaction.atomic():
        events_publish(drafts(uuid7(), 1))

    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)

    assert Event.objects.get().topic == "execution.settled"


def _publish_from_threads(subject: UUID, publish: Callable[[], None]) -> list[BaseException]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            publish()
        except BaseException as error:  # noqa: BLE001 — handed to the test
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_without_the_heads_lock_numbers_repeat() -> None:
    subject = uuid7()
    all_looked = threading.Barrier(4)

    def unlocked() -> None:
        following = Event.objects.filter(subject_id=subject).count() + 1
        all_looked.wait()
        Event.objects.create(topic="x.y", subject_type="person", subject_id=subject, sequence=following)

    assert _publish_from_threads(subject, unlocked) == []
    assert sequences(subject) == [1, 1, 1, 1]


def test_with_the_heads_lock_concurrent_publishers_continue_one_sequence() -> None:
    subject, others = uuid7(), [uuid7() for _ in range(3)]

    def locked() -> None:
        for turn in range(10):
            batch = [
                draft for one in [subject, *others][:: 1 if turn % 2 else -1] for draft in drafts(one, 2)
            ]
            with transaction.atomic():
                events_publish(batch)

    assert _publish_from_threads(subject, locked) == []
    for one in [subject, *others]:
        found = sorted(Event.objects.filter(subject_id=one).values_list("sequence", flat=True))
        assert found == list(range(1, 81))


def test_thousands_are_written_as_few_are() -> None:
    """By COPY: what a payload holds ends no line and no field."""
    count = 200
    one, two, about = uuid7(), uuid7(), uuid7()
    text = 'tab\t, line\n, quote ", backslash \\, \\N, \\t, NUL-like \\u0000, ünï€'
    payload = {"text": text, "none": None, "n": [1, {}]}
    with transaction.atomic():
        events_publish([EventDraft("a.b", "person", one, payload, "deposit", about)])
    millisecond_pass()
    with transaction.atomic():
        many = [
            EventDraft("a.b", "person", (one, two)[n % 2], payload, "deposit", about) for n in range(count)
        ]
        events_publish([*many, EventDraft("c.d", "person", one)])

    written = Event.objects.filter(topic="a.b").values_list("payload", "object_type", "object_id").distinct()
    assert list(written) == [(payload, "deposit", about)]
    assert sequences(one) == list(range(1, count // 2 + 3))
    assert sequences(two) == list(range(1, count // 2 + 1))
    last = Event.objects.get(topic="c.d")
    assert (last.object_type, last.object_id, last.payload) == ("", None, {})
