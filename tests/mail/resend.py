"""A local stand-in for Resend: real HTTP, its idempotency keys, its answers when told to misbehave."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "re_test_4f3a"


Answer = tuple[int, dict[str, Any], dict[str, str]]


@dataclass
class Resend:
    """`calls` is every request as (idempotency key, body); `sent` the mails that were taken, by key.

    `answers` are (status, body, headers) given instead to the next calls; `take_then_hang_up` takes a mail and closes
    the connection without an answer, as many times as it says. By address: `refused` are answered 422, `broken` 500,
    `held` when `release` is set (with the `release_after`-th mail that was taken), or after ten seconds. Once
    `limited_after` mails were taken, all others are answered 429.
    """

    url: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    release: threading.Event = field(default_factory=threading.Event)
    release_after: int = 0
    limited_after: int | None = None
    take_then_hang_up: int = 0

    def answer(self, key: str, body: dict[str, Any], authorization: str | None) -> Answer | None:
        """What this call is answered; None for nothing, though it was taken. One at a time."""
        self.calls.append((key, body))
        if authorization != f"Bearer {API_KEY}":
            return 401, {"name": "missing_api_key"}, {}
        if self.answers:
            return self.answers.pop(0)
        refusal = self._refusal(set(body["to"]))
        if refusal is not None:
            return refusal
        known = self.sent.get(key)
        if known is not None and known["body"] != body:
            return 409, {"name": "invalid_idempotent_request"}, {}
        if known is None:
            known = self.sent[key] = {"id": f"resend-{len(self.sent)}", "body": body}
        if len(self.sent) == self.release_after:
            self.release.set()
        if self.take_then_hang_up:
            self.take_then_hang_up -= 1
            return None
        return 200, {"id": known["id"]}, {}

    def _refusal(self, to: set[str]) -> Answer | None:
        if self.limited_after is not None and len(self.sent) >= self.limited_after:
            return 429, {"name": "rate_limit_exceeded"}, {"Retry-After": "30"}
        if self.broken & to:
            return 500, {"name": "application_error"}, {}
        if self.refused & to:
            return 422, {"name": "validation_error", "message": "Invalid `to`"}, {}
        return None


@contextmanager
def resend_run() -> Iterator[Resend]:
    state = Resend()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if state.held & set(body["to"]):
                state.release.wait(10)
            with lock:
                found = state.answer(
                    self.headers.get("Idempotency-Key", ""), body, self.headers.get("Authorization")
                )
                if found is None:
                    self.close_connection = True
                    self.connection.close()
                else:
                    self._answer(*found)

        def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        # Many connect at once.
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    state.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
