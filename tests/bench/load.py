"""The API benchmark's clients, in one cheap process of their own: raw sockets, keep-alive, closed loop.

`python -m tests.bench.load` reads `{"port", "warm", "clients": [[request, …], …]}` from its standard input, where a
client is the list of the requests that it sends one after the other, each as text ready for the wire, and the first
`warm` of them are not counted. It writes `{"seconds": […], "elapsed", "statuses": {status: count}}`: what each counted
request took from its first byte sent to its last byte received, and how long all of them took together.
"""

import json
import selectors
import socket
import sys
import time
from collections import Counter
from typing import Any

_RECEIVE = 262_144


class _Client:
    """One connection that always has exactly one request under way."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._received = b""
        self._needed = 0
        self.sent = 0
        self.sent_at = 0.0

    def send(self) -> bool:
        """Send the next request; false when none is left."""
        if self.sent == len(self._requests):
            return False
        self._received, self._needed = b"", 0
        self.sent_at = time.perf_counter()
        # Small requests on an idle connection: the kernel takes them whole.
        self.socket.sendall(self._requests[self.sent])
        self.sent += 1
        return True

    def receive(self) -> int:
        """Take what has come; the status when the answer is whole, else 0."""
        part = self.socket.recv(_RECEIVE)
        if not part:
            raise ConnectionError("the server closed the connection")
        self._received += part
        if not self._needed:
            head, found, _ = self._received.partition(b"\r\n\r\n")
            if not found:
                return 0
            length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            self._needed = len(head) + 4 + int(length)
        return int(self._received[9:12]) if len(self._received) >= self._needed else 0


def run(job: dict[str, Any]) -> dict[str, Any]:
    clients = [_Client(job["port"], [one.encode() for one in requests]) for requests in job["clients"]]
    statuses: Counter[str] = Counter()
    _round(clients, job["warm"], statuses)
    started = time.perf_counter()
    seconds = _round(clients, None, statuses)
    elapsed = time.perf_counter() - started
    for client in clients:
        client.socket.close()
    return {"seconds": seconds, "elapsed": elapsed, "statuses": dict(statuses)}


def _round(clients: list[_Client], each: int | None, statuses: Counter[str]) -> list[float]:
    """Let every client send `each` requests (all that are left when None); what each request took."""
    seconds: list[float] = []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            if (each is None or each) and client.send():
                selector.register(client.socket, selectors.EVENT_READ, client)
        while selector.get_map():
            for key, _ in selector.select(30):
                client = key.data
                status = client.receive()
                if not status:
                    continue
                seconds.append(time.perf_counter() - client.sent_at)
                statuses[str(status)] += 1
                if (each is not None and client.sent >= each) or not client.send():
                    selector.unregister(client.socket)
    return seconds


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
