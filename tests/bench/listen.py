"""The stream benchmark's clients, in one cheap process of their own: raw sockets that only listen.

`python -m tests.bench.listen` reads `{"port", "path", "keys": [key, …]}` from the first line of its standard input,
opens a stream with each key, and says `ready` when each has got its first block. Then each further line is a number:
when so many events have come since (on all connections together), it answers with the list of the instants at which
they came, in seconds of the machine's monotonic clock.
"""

import json
import selectors
import socket
import sys
import time

_RECEIVE = 65_536


def main() -> None:
    job = json.loads(sys.stdin.readline())
    with selectors.DefaultSelector() as selector:
        for key in job["keys"]:
            selector.register(_open(job["port"], job["path"], key), selectors.EVENT_READ)
        _wait(selector, b"retry: ", len(job["keys"]))
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(_wait(selector, b"data: ", int(line))), flush=True)


def _open(port: int, path: str, key: str) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-Proto: https\r\nAuthorization: Bearer {key}\r\n\r\n"
    link.sendall(head.encode())
    return link


def _wait(selector: selectors.BaseSelector, mark: bytes, count: int) -> list[float]:
    """Read until so many marks have come; each chunk is a whole block, so that none is cut in two here."""
    found: list[float] = []
    while len(found) < count:
        ready = selector.select(30)
        if not ready:
            raise TimeoutError(f"{len(found)} of {count} came")
        for key, _ in ready:
            part = key.fileobj.recv(_RECEIVE)  # type: ignore[union-attr]
            if not part:
                raise ConnectionError("a stream ended")
            found += [time.monotonic()] * part.count(mark)
    return found


if __name__ == "__main__":
    main()
