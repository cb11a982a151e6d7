"""`python -m config.health` says truly whether a container's process works."""

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from config import health


class Answering(BaseHTTPRequestHandler):
    """200 for the one path and host that a healthy web process would serve, 503 and 400 for the rest."""

    def do_GET(self) -> None:
        expected = self.headers["Host"] == "tranche.example"
        self.send_response((200 if self.path == health.WEB_PATH else 503) if expected else 400)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("PORT", str(server.server_port))
    monkeypatch.setenv("FLOWER_PORT", str(server.server_port))
    monkeypatch.setenv("ALLOWED_HOSTS", ".tranche.example")
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def heartbeat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HEARTBEAT_DIR", str(tmp_path))
    return health.heartbeat_file()


def test_web_that_answers_is_healthy_whatever_form_its_host_has(port: int) -> None:
    assert health.problem("web") == ""


def test_web_that_answers_an_error_is_not_healthy(port: int) -> None:
    assert health.problem("flower") == f"GET /healthcheck at port {port} answered 503"


def test_web_that_refuses_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")

    assert "refused" in health.problem("web")


@pytest.mark.parametrize("role", health.FILE_ROLES)
def test_fresh_heartbeat_is_healthy(role: str, heartbeat: Path) -> None:
    heartbeat.touch()

    assert health.problem(role) == ""


@pytest.mark.parametrize("role", health.FILE_ROLES)
def test_old_heartbeat_is_not_healthy(role: str, heartbeat: Path) -> None:
    heartbeat.touch()
    old = time.time() - health.STALE_AFTER_SECONDS - 1
    os.utime(heartbeat, (old, old))

    assert "was last touched 61 s ago" in health.problem(role)


def test_worker_that_never_reached_the_broker_is_not_healthy(heartbeat: Path) -> None:
    assert health.problem("worker") == f"{heartbeat} is not there: the process has never reached the broker"


def test_heartbeat_without_a_place_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEARTBEAT_DIR", raising=False)

    assert "HEARTBEAT_DIR is not set" in health.problem("beat")


def test_unknown_role_is_not_healthy() -> None:
    assert "unknown role 'cook'" in health.problem("cook")
