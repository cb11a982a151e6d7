"""Locks that many rooms stand on, each first off, then on; and rows that somebody holds, which nobody waits for."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import ProgrammingError, connection

from apps.accounts.models import User
from apps.core import partitions
from apps.core.api.problems import ProblemError
from apps.core.ids import uuid7
from apps.mail.pace import pace_take
from apps.stream.models import OpenStream
from apps.stream.services import stream_open
from tests.support.races import off_and_on, race

pytestmark = pytest.mark.django_db(transaction=True)


@off_and_on
def test_a_month_is_made_once(locked: bool) -> None:
    at = datetime(2051 + locked, 5, 5, tzinfo=UTC)

    def make() -> list[str]:
        return partitions.ensure(at=at, months_ahead=0, tables={"events_event"})

    first, second = race(make, make, lock="pg_advisory_xact_lock", locked=locked, read="to_regclass")

    assert len(first) == 2
    assert second == [] if locked else isinstance(second, ProgrammingError)


@off_and_on
def test_two_workers_do_not_send_faster_than_one_may(settings: Any, locked: bool) -> None:
    settings.MAIL_PER_SECOND = 0.001
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO mail_pace (name, tokens, filled_at) VALUES ('mail', 1, clock_timestamp())"
        )

    def take() -> int:
        return pace_take(1, essential=True)

    # Also without the lock: whoever comes second waits before it, with an insert that finds the row being changed.
    assert race(take, take, lock="mail_pace", locked=locked, read="WITH held") == [1, 0]


@off_and_on
def test_streams_are_counted_one_after_another(settings: Any, locked: bool) -> None:
    settings.STREAMS_PER_PERSON = 1
    user = User.objects.create(email="watcher@example.org")

    def watch() -> Any:
        return stream_open(user_id=user.pk, process_id=process_id)

    process_id = uuid7()
    _, answer = race(watch, watch, lock='FROM "accounts_user"', locked=locked, read="FROM stream_openstream")

    assert isinstance(answer, ProblemError) is locked
    assert OpenStream.objects.count() == (1 if locked else 2)
