"""A kept connection is looked at before it is used again, without a round trip."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.db import DataError, IntegrityError, connection, connections, transaction
from django_prometheus.db.backends.postgresql import base
from sentry_sdk.consts import DEFAULT_OPTIONS
from sentry_sdk.utils import event_from_exception

from apps.accounts.models import User
from apps.core import bulk
from config import reports
from config.settings import common

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


# Not written where it is used: a traceback shows the line.
EMAIL = "ann.person@example.org"


def violation() -> IntegrityError:
    User.objects.create(email=EMAIL)
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        User.objects.create(email=EMAIL)
    return caught.value


def test_an_error_of_the_database_says_the_constraint_and_no_row() -> None:
    error = violation()

    cause: Any = error.__cause__
    # PostgreSQL has said it, so that leaving it out is our doing.
    assert EMAIL in cause.diag.message_detail
    constraint = cause.diag.constraint_name
    said = f'duplicate key value violates unique constraint "{constraint}" (SQLSTATE 23505)'
    assert (str(error), str(cause)) == (said, said)


def test_a_value_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(DataError) as caught, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT %s::uuid", [EMAIL])

    assert str(caught.value) == "data exception (SQLSTATE 22P02)"
    assert str(caught.value.__cause__) == "data exception (SQLSTATE 22P02)"


def test_rows_that_are_copied_are_not_repeated_either() -> None:
    error = violation()
    row = User.objects.get()
    with (
        pytest.raises(IntegrityError) as caught,
        transaction.atomic(),
    ):
        bulk.insert(
            "accounts_user",
            {str(field.column): [getattr(row, field.attname)] for field in User._meta.concrete_fields},
        )

    assert "ann.person" not in str(caught.value)
    assert "ann.person" not in str(error)


@pytest.mark.parametrize("json", [True, False])
def test_neither_a_log_line_nor_a_report_of_it_holds_a_row(json: bool) -> None:
    config = common.logging(level="INFO", json=json)["formatters"]["structured"]
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=config["processors"], foreign_pre_chain=config["foreign_pre_chain"]
    )
    error = violation()
    record = logging.LogRecord(
        "x", logging.ERROR, "x", 1, "%s", (repr(error),), (type(error), error, error.__traceback__)
    )
    line = formatter.format(record)
    options = {**DEFAULT_OPTIONS, "include_local_variables": False}
    event, _ = event_from_exception(error, client_options=options)

    assert "SQLSTATE 23505" in line
    assert "ann.person" not in line
    assert "SQLSTATE 23505" in str(reports.cleaned(event, {}))
    assert "ann.person" not in str(reports.cleaned(event, {}))
