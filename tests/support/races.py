"""Races that happen each time: two jobs run the real code, first with a lock taken off, then with it on.

The first job stops once it has read what its lock guards; then the second runs until it has read it too, or waits for
the lock; then the first goes on to its end, and after it the second. Nothing in it depends on who is faster.
"""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

PATIENCE_SECONDS = 20.0
_ROW_LOCK = re.compile(r"\s+FOR (?:NO KEY )?UPDATE(?: OF \S+)?(?: SKIP LOCKED)?")
_TRIED_LOCK = re.compile(r"pg_try_advisory_(?:xact_)?lock(\(.*?\)+)(?=$|\s)")
_ADVISORY_LOCK = re.compile(r"pg_advisory_(?:xact_)?lock(\(.*?\)+)(?=$|\s)")

off_and_on = pytest.mark.parametrize("locked", [False, True], ids=["off", "on"])


def race(
    first: Callable[[], Any], second: Callable[[], Any], *, lock: str, locked: bool, read: str = ""
) -> list[Any]:
    """What both answered or raised. Unless `locked`, statements that match `lock` are sent without their lock.

    `lock` and `read` are regular expressions of SQL. Each job stops once, after the first statement that matches
    `read`; where none is given, after the first that takes the lock. Both jobs commit by themselves.
    """
    stages = [_Job(job, lock=lock, locked=locked, read=read) for job in (first, second)]
    for stage in stages:
        stage.start()
        until(lambda: stage.stopped.is_set() or somebody_waits(), of=stage)  # noqa: B023
    for stage in stages:
        stage.goes_on.set()
        stage.join(PATIENCE_SECONDS)
        assert not stage.is_alive()
    assert any(stage.took for stage in stages), "nobody came to the lock"
    assert any(stage.met for stage in stages), "nobody read what the lock guards"
    return [stage.answer for stage in stages]


def beside(hold: Callable[[], Any], job: Callable[[], Any], *, lock: str, locked: bool) -> Any:
    """What `job` answers or raises while a transaction that is not over has done `hold`; a wait is soon an error."""

    def impatient() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
        return job()

    stage = _Job(impatient, lock=lock, locked=locked, read="")
    stage.goes_on.set()
    with transaction.atomic():
        hold()
        stage.start()
        stage.join(PATIENCE_SECONDS)
    assert not stage.is_alive()
    assert stage.took, "the job never came to its lock"
    return stage.answer


class _Job(threading.Thread):
    def __init__(self, job: Callable[[], Any], *, lock: str, locked: bool, read: str) -> None:
        super().__init__(daemon=True)
        self.job, self.locked = job, locked
        self.lock, self.read = re.compile(lock, re.DOTALL), re.compile(read or lock, re.DOTALL)
        self.stopped, self.goes_on = threading.Event(), threading.Event()
        self.took = self.met = False
        self.answer: Any = None

    def run(self) -> None:
        try:
            with connection.execute_wrapper(self.send):
                self.answer = self.job()
        except Exception as error:  # noqa: BLE001 — looked at by the test
            self.answer = error
        finally:
            self.stopped.set()
            connection.close()

    def send(self, execute: Any, statement: Any, params: Any, many: bool, context: Any) -> Any:
        text = statement if isinstance(statement, str) else statement.as_string()
        free = _unlocked(text)
        takes = free != text and self.lock.search(text) is not None
        self.took = self.took or takes
        answer = execute(free if takes and not self.locked else statement, params, many, context)
        if not self.stopped.is_set() and (takes if self.read is self.lock else self.read.search(text)):
            self.met = True
            self.stopped.set()
            assert self.goes_on.wait(PATIENCE_SECONDS)
        return answer


def _unlocked(text: str) -> str:
    text = _TRIED_LOCK.sub(r"(\1 IS NOT NULL)", _ROW_LOCK.sub("", text))
    return _ADVISORY_LOCK.sub(r"\1", text)


def until(done: Callable[[], bool], *, of: threading.Thread) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline, f"{of.name} neither stopped nor waited"
        time.sleep(0.005)


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])
