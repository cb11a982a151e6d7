"""Where credentials would get out to: a stand-in for Sentry and for a node, and all that Redis is sent."""

import threading
import zlib
from contextlib import suppress
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import redis


class Sentry(ThreadingHTTPServer):
    """Takes envelopes as Sentry does, and keeps what they hold."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.calls: list[str] = []
        super().__init__(("127.0.0.1", 0), _Taker)


class _Taker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Sentry)
        if self.path.startswith("/v2/"):
            # A node that answers nonsense. It may be told its own key and nobody else's.
            self.server.calls.append(f"{self.headers} {body.decode()}")
            self._answer()
            return
        coding = self.headers.get("Content-Encoding", "")
        body = (
            decompress(body) if coding == "gzip" else zlib.decompress(body) if coding == "deflate" else body
        )
        # The first line is the envelope's own head, which names the project by its public key: that is the way in.
        _, _, items = body.decode().partition("\n")
        self.server.reports.append(items)
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class Listener(threading.Thread):
    """Everything that anybody sends to Redis, from its own monitor."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.client = redis.Redis.from_url(url, socket_timeout=None)
        self.heard: list[str] = []

    def run(self) -> None:
        # Until the server goes.
        with suppress(redis.RedisError, OSError), self.client.monitor() as monitor:  # type: ignore[no-untyped-call]
            for command in monitor.listen():
                self.heard.append(str(command["command"]))
