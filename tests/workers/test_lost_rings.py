"""A ring that dies with its worker costs a tick or two: real beat, real workers, a real broker."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from apps.core.models import WorkProbe
from tests.house.tree import ROOT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e, pytest.mark.slow]

PATIENCE_SECONDS = 40


def wait_until(condition: Callable[[], bool]) -> bool:
    pause = threading.Event()
    return any(condition() or pause.wait(0.05) for _ in range(PATIENCE_SECONDS * 20))


class Roles:
    """Processes of the platform on the test's database; `log` is what one has said."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "DATABASE_URL": "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(
                **connection.settings_dict
            ),
            "REDIS_URL": redis_url,
            "SANDBOX_DIR": str(directory),
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
            "WORKER_QUEUES": "default",
            "WORKER_CONCURRENCY": "1",
            "LOG_LEVEL": "INFO",
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, role: str, name: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "config.roles", role],
                cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.running.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.running.remove(process)


@pytest.fixture
def broker() -> Iterator[Any]:
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def roles(tmp_path: Path, broker: Any) -> Iterator[Roles]:
    made = Roles(tmp_path, settings.REDIS_URL)
    yield made
    for process in list(made.running):
        made.kill(process)


@contextmanager
def nobody_claims() -> Iterator[None]:
    """Who wants to claim a probe waits; who only looks for what is due does not."""
    with psycopg.connect(**connection.get_connection_params()) as session:
        session.execute("LOCK TABLE core_workprobe IN SHARE MODE")
        yield


def claiming() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND query LIKE 'UPDATE \"core_workprobe\"%'"
        )
        return bool(cursor.fetchone()[0])


def rings(broker: Any) -> int:
    """How many rings for probes wait to be heard."""
    waiting = [json.loads(raw)["headers"]["task"] for raw in broker.lrange("default", 0, -1)]
    return waiting.count("core.probe")


def test_work_goes_on_within_two_ticks_of_a_worker_that_dies_before_it_claims(
    roles: Roles, broker: Any
) -> None:
    # given a worker with the only ring in hand, which has claimed nothing yet
    probe = WorkProbe.objects.create()
    first = roles.start("worker", "first")
    with nobody_claims():
        roles.start("beat", "beat")
        assert wait_until(claiming)
        # when it dies
        roles.kill(first)
        assert (broker.hlen("unacked") >= 1, rings(broker)) == (True, 0)
    probe.refresh_from_db()
    assert (probe.state, probe.attempts) == ("open", 0)
    # then beat, which rings only for what is newly due, brings another worker to it by its tick
    roles.start("worker", "second")
    assert wait_until(lambda: "ready." in roles.log("second"))
    ready = monotonic()
    assert wait_until(lambda: not WorkProbe.objects.filter(state="open").exists())
    # Two ticks, and two seconds for a busy machine.
    assert monotonic() - ready < 4
    probe.refresh_from_db()
    assert (probe.state, probe.attempts) == ("closed", 0)
