"""A process on a machine whose clock is wrong: what it puts off is due when it was meant to be."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
from django.db import connection

from apps.core import clock
from apps.core.models import WorkProbe

# A retry is put off by at most a second, in a process whose machine's clock is wrong.
_RETRY = """
import sys
from datetime import UTC, datetime, timedelta
import time_machine
time_machine.travel(datetime.now(UTC) + timedelta(seconds=int(sys.argv[1])), tick=True).start()
import django
django.setup()
from django.db import connection
from apps.core import clock, work
from apps.core.errors import Retryable
from apps.core.models import WorkProbe
if sys.argv[2] == "alone":
    clock.compare = lambda **_: None
connection.ensure_connection()  # as every task does
def fail(rows):
    raise Retryable("not yet")
kind = work.Work("test.skewed", WorkProbe, ("open",), advance=fail)
WorkProbe.objects.create()
work.drain(kind, budget_seconds=0)
"""


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_kept", None)


def retried(seconds: int, how: str) -> timedelta:
    """How far from now, by PostgreSQL's clock, the retry of such a process is due."""
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    subprocess.run(
        [sys.executable, "-c", _RETRY, str(seconds), how],
        env={**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings.test"},
        timeout=60,
        check=True,
        capture_output=True,
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT run_after - clock_timestamp(), attempts FROM core_workprobe")
        waits, attempts = cursor.fetchone()
    WorkProbe.objects.all().delete()
    assert attempts == 1
    return timedelta(seconds=waits.total_seconds())


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("how", "off"), [("alone", 300), ("compared", 0)])
def test_a_clock_that_is_ahead_does_not_delay_a_retry(how: str, off: int) -> None:
    """On its own clock the row would lie untouched for five minutes (first half)."""
    assert abs(retried(300, how) - timedelta(seconds=off)) < timedelta(seconds=60)


def test_a_clock_that_agrees_is_left_alone() -> None:
    at = monotonic()
    clock.compare(database=datetime.now(UTC) + timedelta(milliseconds=20), asked=at, answered=monotonic())
    assert clock._kept is None


def test_an_answer_that_took_long_says_little() -> None:
    """Half of the way's time is doubt: a database that answers after two seconds moves nothing by one."""
    at = monotonic()
    clock.compare(database=datetime.now(UTC), asked=at - 2, answered=at)
    assert clock._kept is None


@pytest.mark.parametrize("seconds", [300, -300, 0.2])
def test_the_databases_clock_is_kept_and_runs_on(seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    at = monotonic()
    clock.compare(database=datetime.now(UTC) + timedelta(seconds=seconds), asked=at, answered=monotonic())
    first = clock.SystemClock().now()
    assert abs(first - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(milliseconds=40)
    assert clock.SystemClock().now() > first
    assert ("this machine's clock is wrong" in caplog.messages) == (abs(seconds) > 1)
    # The next answer, of the same database, leaves it where it is.
    kept = clock._kept
    at = monotonic()
    clock.compare(database=datetime.now(UTC) + timedelta(seconds=seconds), asked=at, answered=monotonic())
    assert clock._kept is kept
