"""The limit per person under the lock that it needs."""

import threading

import pytest
from django.conf import settings
from django.db import connection, transaction

from apps.accounts.models import User
from apps.core.api.problems import ProblemError
from apps.core.ids import uuid7
from apps.stream.models import OpenStream
from apps.stream.services import process_forget, process_note, stream_open, streams_forget

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def user() -> User:
    return User.objects.create(email="watcher@example.org", password="!")


def test_no_more_than_the_limit_however_many_come_at_once(user: User) -> None:
    process_id, refused = uuid7(), []
    together = threading.Barrier(24)

    def open_one() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            together.wait(timeout=30)
            stream_open(user_id=user.pk, process_id=process_id)
        except ProblemError as error:
            refused.append(error.problem.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=open_one) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert OpenStream.objects.count() == settings.STREAMS_PER_PERSON == 10
    assert refused == ["too_many_streams"] * 14


def test_a_second_one_waits_for_the_first_to_be_counted(user: User) -> None:
    """Held up inside its transaction, the first is seen by the second all the same."""
    process_id = uuid7()
    for _ in range(settings.STREAMS_PER_PERSON - 1):
        stream_open(user_id=user.pk, process_id=process_id)
    outcome: list[str] = []

    def second() -> None:
        try:
            stream_open(user_id=user.pk, process_id=process_id)
        except ProblemError as error:
            outcome.append(error.problem.code)
        finally:
            connection.close()

    thread = threading.Thread(target=second)
    with transaction.atomic():
        stream_open(user_id=user.pk, process_id=process_id)
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive()
    thread.join()

    assert outcome == ["too_many_streams"]


def test_what_a_dead_process_left_is_swept_by_the_living(user: User) -> None:
    dead, living = uuid7(), uuid7()
    process_note(process_id=dead, name="dead")
    kept = stream_open(user_id=user.pk, process_id=living)
    stream_open(user_id=user.pk, process_id=dead)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE stream_streamprocess SET seen_at = seen_at - interval '2 minutes'")
        cursor.execute("UPDATE stream_openstream SET opened_at = opened_at - interval '2 minutes'")

    process_note(process_id=living, name="living")

    assert list(OpenStream.objects.values_list("pk", flat=True)) == [kept]
    streams_forget(stream_ids=[kept])
    assert not OpenStream.objects.exists()
    process_forget(process_id=living)
