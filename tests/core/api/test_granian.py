"""The same promises from the real server process: chunked bodies, unknown paths, crashes, over a socket."""

import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection

from apps.sandbox.runtime.processes import Child, child_start_on_free_port
from tests.core.api.urls import SECRET_IN_THE_CRASH

LIMIT = 10 * 1024


class Server:
    """One granian process and plain sockets to it: no client library that repairs what it sends."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log = port, log

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
        chunked: bool = False,
    ) -> tuple[int, dict[str, str], bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            link.request(method, path, body=body, headers=headers or {}, encode_chunked=chunked)
            response = link.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return response.status, names, response.read()
        finally:
            link.close()

    def send_raw(self, head: str, start: bytes) -> tuple[int, dict[str, str], bytes]:
        """A POST of which only the start of the body is ever sent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as link:
            line = "POST /api/v1/probe/crash HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            link.sendall((line + head + "\r\n").encode() + start)
            response = http.client.HTTPResponse(link)
            response.begin()
            names = {name.lower(): value for name, value in response.getheaders()}
            return response.status, names, response.read()


def database_url() -> str:
    found = connection.settings_dict
    login = (
        f"{quote(found['USER'])}:{quote(found['PASSWORD'])}@" if found["PASSWORD"] else f"{found['USER']}@"
    )
    return f"postgresql://{login}{found['HOST']}:{found['PORT']}/{found['NAME']}"


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("granian") / "web.log"
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "REDIS_URL": settings.REDIS_URL,
        "DJANGO_SETTINGS_MODULE": "tests.core.api.granian_settings",
        "WEB_WORKERS": "1",
        "LOG_FORMAT": "json",
    }

    def make(port: int) -> Child:
        return Child(
            name="web",
            argv=[sys.executable, "-m", "config.roles", "web"],
            log=log,
            environment={**environment, "PORT": str(port)},
            directory=settings.BASE_DIR,
        )

    def ready(port: int, child: Child) -> bool:
        del child
        try:
            return Server(port, log).send("GET", "/api/v1/health")[0] == 200
        except OSError:
            return False

    child, port = child_start_on_free_port(make, ready=ready, seconds=40)
    yield Server(port, log)
    child.stop()


def check(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> dict[str, Any]:
    found, headers, content = answer
    assert headers["content-type"] == "application/problem+json", content[:300]
    document: dict[str, Any] = json.loads(content)
    assert (found, document["status"], document["code"]) == (status, status, code)
    assert document["request_id"] == headers["x-request-id"] != ""
    return document


def chunks(size: int, step: int = 1000) -> Iterator[bytes]:
    for start in range(0, size, step):
        yield b" " * min(step, size - start)


@pytest.mark.parametrize("path", ["/api", "/api/v1/nowhere", "/api/v1/%00", "/api/v1/%ff%fe", "/api//v1/me"])
def test_unknown_path(server: Server, path: str) -> None:
    check(server.send("GET", path), 404, "not_found")


def test_method_not_allowed(server: Server) -> None:
    answer = server.send("DELETE", "/api/v1/health")
    check(answer, 405, "method_not_allowed")
    assert answer[1]["allow"] == "GET, HEAD"


def test_large_body_with_its_length(server: Server) -> None:
    headers = {"Content-Type": "application/json"}
    answer = server.send("POST", "/api/v1/probe/crash", body=b" " * (LIMIT + 1), headers=headers)
    check(answer, 413, "body_too_large")


def test_announced_large_body_is_refused_before_it_comes(server: Server) -> None:
    head = "Content-Type: application/json\r\nContent-Length: 3000000\r\n"
    check(server.send_raw(head, b"{"), 413, "body_too_large")


def test_large_chunked_body(server: Server) -> None:
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    body = chunks(LIMIT + 1)
    answer = server.send("POST", "/api/v1/probe/crash", body=body, headers=headers, chunked=True)
    check(answer, 413, "body_too_large")


def test_endless_chunked_body_is_refused_at_the_limit(server: Server) -> None:
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    # Three chunks of 4096 bytes and never an end: the answer comes all the same.
    head = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    check(server.send_raw(head, chunk * 3), 413, "body_too_large")


def test_broken_chunks_are_refused_and_the_server_lives(server: Server) -> None:
    head = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    check(server.send_raw(head, b"zz\r\nnot a chunk\r\n"), 400, "bad_request")
    check(server.send_raw(head, b'5\r\n{"a":\r\nzz\r\n'), 400, "malformed_json")
    assert server.send("GET", "/api/v1/health")[0] == 200


def test_small_chunked_body_is_read_and_not_taken_for_an_empty_one(server: Server) -> None:
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    body = iter([b'{"a": ', b"1, ", b'"a": 2}'])
    answer = server.send("POST", "/api/v1/probe/crash", body=body, headers=headers, chunked=True)
    assert "twice" in check(answer, 400, "malformed_json")["detail"]


def test_wrong_content_type(server: Server) -> None:
    headers = {"Content-Type": "text/plain"}
    check(
        server.send("POST", "/api/v1/probe/crash", body=b"{}", headers=headers), 415, "unsupported_media_type"
    )


def test_without_a_key(server: Server) -> None:
    answer = server.send("GET", "/api/v1/me")
    check(answer, 401, "not_authenticated")
    assert answer[1]["www-authenticate"] == 'Bearer realm="api"'


def test_crash_is_in_the_log_and_not_in_the_answer(server: Server) -> None:
    answer = server.send("GET", "/api/v1/probe/crash", headers={"X-Request-Id": "crash-in-granian"})
    document = check(answer, 500, "internal_error")
    assert document["request_id"] == "crash-in-granian"
    for leak in ("hunter2", "RuntimeError", "Traceback", "urls.py"):
        assert leak not in answer[2].decode()
        assert leak not in str(answer[1])
    logged = server.log.read_text()
    assert SECRET_IN_THE_CRASH in logged
    failed = [json.loads(line) for line in logged.splitlines() if '"request_failed"' in line]
    assert [line["request_id"] for line in failed] == ["crash-in-granian"]


def test_the_server_names_no_version(server: Server) -> None:
    for path in ("/api/v1/health", "/api/v1/nowhere", "/admin/login/"):
        assert server.send("GET", path)[1]["server"] == "granian"


def test_ready(server: Server) -> None:
    status, _, content = server.send("GET", "/api/v1/health/ready")
    assert (status, json.loads(content)["status"]) == (200, "ok"), content
