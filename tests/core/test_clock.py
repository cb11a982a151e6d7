"""A process on a machine whose clock is wrong: what it puts off is due when it was meant to be."""

from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
import time_machine
from django.db import connection

from apps.core import clock, work
from apps.core.errors import Retryable
from apps.core.models import WorkProbe


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_kept", None)


def instant() -> tuple[datetime, float]:
    """What the machine's clock and its monotonic one say at once: within a millisecond, however busy it is."""
    while True:
        before, now, after = monotonic(), datetime.now(UTC), monotonic()
        if after - before < 0.001:
            return now, (before + after) / 2


def _fail(rows: list[WorkProbe]) -> None:
    raise Retryable("not yet")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seconds", [300, -300])
@pytest.mark.parametrize("compared", [False, True])
def test_a_clock_that_is_wrong_does_not_move_a_retry(
    seconds: int, compared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its own clock a retry after a second at most would be due five minutes off (first half)."""
    if not compared:
        monkeypatch.setattr(clock, "compare", lambda **_: None)
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=True):
        connection.close()
        connection.ensure_connection()  # as every task does
        WorkProbe.objects.create()
        work.drain(work.Work("test.skewed", WorkProbe, ("open",), advance=_fail), budget_seconds=0)
    with connection.cursor() as cursor:
        # By PostgreSQL's clock.
        cursor.execute("SELECT run_after - clock_timestamp(), attempts FROM core_workprobe")
        waits, attempts = cursor.fetchone()
    assert attempts == 1
    assert abs(waits - timedelta(seconds=0 if compared else seconds)) < timedelta(seconds=60)


def test_a_clock_that_agrees_is_left_alone() -> None:
    now, at = instant()
    clock.compare(database=now + timedelta(milliseconds=20), asked=at, answered=at)
    assert clock._kept is None


def test_an_answer_that_took_long_says_little() -> None:
    """Half of the way's time is doubt: a database that answers after two seconds moves nothing by one."""
    now, at = instant()
    clock.compare(database=now, asked=at - 2, answered=at)
    assert clock._kept is None


def test_being_interrupted_while_comparing_is_no_difference(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine is busy: two seconds go by between one reading of a clock and the next."""
    now, at = instant()
    answers = iter([at, at + 2])
    monkeypatch.setattr(clock, "monotonic", lambda: next(answers))
    with time_machine.travel(now + timedelta(seconds=2), tick=False):
        clock.compare(database=now, asked=at, answered=at)
    assert clock._kept is None
    assert not caplog.messages


@pytest.mark.parametrize("seconds", [300, -300, 0.2])
def test_the_databases_clock_is_kept_and_runs_on(seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    off = timedelta(seconds=seconds)
    now, at = instant()
    clock.compare(database=now + off, asked=at, answered=at)
    before = instant()[0]
    first, read_at = clock.SystemClock().now(), monotonic()
    # Two readings in a row are often of the same microsecond.
    while monotonic() < read_at + 0.01:
        pass
    second = clock.SystemClock().now()
    after = instant()[0]
    # As far as two clocks can be read at once.
    little = timedelta(milliseconds=5)
    assert before + off - little < first
    assert first + timedelta(seconds=0.01) - little < second < after + off + little
    assert ("this machine's clock is wrong" in caplog.messages) == (abs(seconds) > 1)
    # The next answer, of the same database, leaves it where it is.
    kept = clock._kept
    now, at = instant()
    clock.compare(database=now + off, asked=at, answered=at)
    assert clock._kept is kept
