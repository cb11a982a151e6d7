"""A kept connection is looked at before it is used again, without a round trip."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections
from django_prometheus.db.backends.postgresql import base

pytestmark = pytest.mark.django_db


@pytest.fixture
def other() -> Iterator[Any]:
    """A second connection, as another request's thread has it."""
    made: Any = connections.create_connection("default")
    made.inc_thread_sharing()
    made.connect()
    yield made
    made.close()


def test_living_connection_is_not_asked(other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_: Any) -> bool:
        raise AssertionError("a statement was sent")

    monkeypatch.setattr(base.DatabaseWrapper, "is_usable", ask)

    assert other.is_usable()


def test_connection_that_the_server_ended_is_replaced_before_it_is_used(other: Any) -> None:
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with connection.cursor() as cursor:
        # Answers once the other backend has gone, so that its goodbye has been sent.
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert cursor.fetchone() == (True,)

    assert not other.is_usable()
    # What Django does between two requests.
    other.health_check_enabled = True
    other.close_if_unusable_or_obsolete()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone() != (pid,)


def test_closed_connection_is_not_usable(other: Any) -> None:
    other.connection.close()

    assert not other.is_usable()
