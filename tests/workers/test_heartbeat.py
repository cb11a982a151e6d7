"""The heartbeat of a real worker on a real broker: it beats while the worker can reach it, and only then."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.sandbox.runtime.valkey import Valkey
from bin.check import production
from config import health
from tests.house.tree import ROOT

PATIENCE_SECONDS = 40
# Longer than three of Celery's heartbeats, which are 2 s apart.
THREE_BEATS_SECONDS = 7


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def worker(
    valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Iterator[subprocess.Popen[bytes]]":
    monkeypatch.setenv("HEARTBEAT_DIR", str(tmp_path))
    environment = {
        **production(),
        "PATH": os.environ["PATH"],
        "REDIS_URL": valkey.url,
        "HEARTBEAT_DIR": str(tmp_path),
        "WORKER_CONCURRENCY": "1",
    }
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "config.roles", "worker"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
        yield process
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool]) -> bool:
    pause = threading.Event()
    return any(condition() or pause.wait(0.2) for _ in range(PATIENCE_SECONDS * 5))


def beats_on(seconds: float) -> bool:
    """Whether the heartbeat file is touched within that time."""
    before = health.heartbeat_file().stat().st_mtime_ns
    threading.Event().wait(seconds)
    return health.heartbeat_file().stat().st_mtime_ns > before


@pytest.mark.e2e
@pytest.mark.slow
def test_worker_beats_while_it_has_its_broker_and_stops_at_once_when_told(
    worker: "subprocess.Popen[bytes]", valkey: Valkey
) -> None:
    # given a worker that has just started
    assert wait_until(lambda: health.problem("worker") == "")
    assert beats_on(THREE_BEATS_SECONDS)

    # when its broker is gone
    valkey.stop()
    threading.Event().wait(1)

    # then the heart stops, though the process lives
    assert not beats_on(THREE_BEATS_SECONDS)
    assert worker.poll() is None

    # and beats again with the broker back
    valkey.start()
    last = health.heartbeat_file().stat().st_mtime_ns
    assert wait_until(lambda: health.heartbeat_file().stat().st_mtime_ns > last)

    # and SIGTERM ends an idle worker well before the platform's patience does
    worker.terminate()
    assert worker.wait(timeout=20) == 0
