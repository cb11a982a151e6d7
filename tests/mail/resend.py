"""A local stand-in for Resend: real HTTP, its idempotency keys, its answers when told to misbehave."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "re_test_4f3a"


@dataclass
class Resend:
    """`calls` is every request as (idempotency key, body); `sent` the mails that were taken, by key.

    `answers` are (status, body, headers) given instead to the next calls; `take_then_hang_up` takes a mail and closes
    the connection without an answer, as many times as it says.
    """

    url: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: list[tuple[int, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    take_then_hang_up: int = 0


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
            key = self.headers.get("Idempotency-Key", "")
            with lock:
                state.calls.append((key, body))
                if self.headers.get("Authorization") != f"Bearer {API_KEY}":
                    return self._answer(401, {"name": "missing_api_key"})
                if state.answers:
                    return self._answer(*state.answers.pop(0))
                if state.refused & set(body["to"]):
                    return self._answer(422, {"name": "validation_error", "message": "Invalid `to`"})
                known = state.sent.get(key)
                if known is not None and known["body"] != body:
                    return self._answer(409, {"name": "invalid_idempotent_request"})
                if known is None:
                    known = state.sent[key] = {"id": f"resend-{len(state.sent)}", "body": body}
                if state.take_then_hang_up:
                    state.take_then_hang_up -= 1
                    self.close_connection = True
                    self.connection.close()
                    return None
                return self._answer(200, {"id": known["id"]})

        def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
