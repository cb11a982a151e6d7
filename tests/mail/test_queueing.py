"""Queueing: once per key, in the caller's transaction, with nothing secret to be read."""

import threading

import pytest
from django.db import connection, transaction

from apps.core import work
from apps.mail import kinds
from apps.mail.models import Letter, Message
from apps.mail.selectors import letters_received
from apps.mail.services import MessageDraft, message_queue, messages_queue

pytestmark = pytest.mark.django_db

CODE = "739154"


def code_queue(key: str = "e1:ann:code", to: str = "ann@example.com") -> Message:
    return message_queue(
        to=to, template="code", context={"code": CODE, "minutes": 10}, key=key, essential=True
    )


def test_the_same_key_queues_one_message() -> None:
    first = code_queue()
    again = code_queue()

    assert again.pk == first.pk
    assert Message.objects.count() == 1
    assert (first.state, first.essential, first.context) == ("queued", True, {"minutes": 10})


def test_what_is_rolled_back_queues_nothing() -> None:
    with transaction.atomic():
        code_queue()
        transaction.set_rollback(True)

    assert Message.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_two_at_once_with_one_key_queue_one() -> None:
    barrier = threading.Barrier(2)
    found: list[object] = []

    def queue() -> None:
        barrier.wait()
        with transaction.atomic():
            found.append(code_queue().pk)
        connection.close()

    threads = [threading.Thread(target=queue) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 2
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("to", "template", "key"),
    [
        ("ann@example.com", "nothing", "k"),
        ("ann@example.com", "code", ""),
        ("ann@example.com", "code", "k" * 201),
        ("not an address", "code", "k"),
        ("ann@example.com\nBcc: eve@example.com", "code", "k"),
        ("ann@example.com, eve@example.com", "code", "k"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(to: str, template: str, key: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        message_queue(to=to, template=template, context={}, key=key, essential=True)

    assert Message.objects.count() == 0


def test_a_code_is_nowhere_to_be_read_before_and_blanked_after_sending() -> None:
    code_queue()
    assert CODE not in everything_in("mail_message")
    assert Message.objects.get().secret is not None

    work.drain(kinds.SEND_WORK)

    row = Message.objects.get()
    assert (row.state, row.secret, row.attempts, row.lease_token) == ("sent", None, 0, None)
    assert row.sent_at is not None
    assert CODE not in everything_in("mail_message") + everything_in("mail_letter")
    (letter,) = letters_received(to="ANN@example.com")
    assert CODE in letter.text
    assert CODE in letter.html
    assert CODE not in letter.subject


def test_many_are_queued_in_one_statement_and_sent_by_priority(django_assert_num_queries: object) -> None:
    drafts = [
        MessageDraft(f"p{n}@example.com", "welcome", f"e{n}:p:welcome", essential=n % 2 == 0)
        for n in range(20)
    ]
    with django_assert_num_queries(3):  # type: ignore[operator]  # savepoint, insert, release
        assert messages_queue([*drafts, drafts[0]]) == 20

    assert messages_queue(drafts) == 0
    work.drain(kinds.SEND_WORK)
    assert set(Message.objects.filter(state="sent").values_list("essential", flat=True)) == {True}
    work.drain(kinds.SEND_BULK_WORK)
    assert Message.objects.filter(state="sent").count() == 20
    assert Letter.objects.count() == 20


def everything_in(table: str) -> str:
    """All columns of all rows as text, bytes as they are."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        rows = cursor.fetchall()
    return " ".join(
        value.tobytes().decode("latin-1")
        if isinstance(value, memoryview)
        else value.decode("latin-1")
        if isinstance(value, bytes)
        else str(value)
        for row in rows
        for value in row
    )
