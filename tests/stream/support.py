"""Real stream processes, and clients that read them byte by byte."""

import http.client
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db import connection, transaction

from apps.accounts.domain import token_make
from apps.accounts.models import ApiKey, User
from apps.accounts.services import api_key_create
from apps.events.services import EventDraft, events_publish
from apps.sandbox.runtime.processes import Child, child_start_on_free_port
from tests.stream.stream_settings import STREAM_HEARTBEAT_SECONDS

PATH = "/api/v1/stream"
_numbers = iter(range(10**9))


@dataclass(frozen=True)
class Person:
    user: User
    key: str

    def tell(
        self, count: int = 1, *, topic: str = "execution.settled", text: str = "", rolled_back: bool = False
    ) -> None:
        """`count` events in one commit."""
        with transaction.atomic():
            events_publish(
                [EventDraft(topic, "person", self.user.pk, {"n": n, "text": text}, "slot", self.user.pk)
                 for n in range(count)]
            )  # fmt: skip
            transaction.set_rollback(rolled_back)


def person_make(*scopes: str) -> Person:
    user = User.objects.create(email=f"watcher-{next(_numbers)}@example.org", password="!")
    made = api_key_create(user_id=user.pk, name="live", scopes=scopes or ("events:read",))
    return Person(user, made.key)


def keys_make(count: int) -> list[str]:
    """A key for each of so many new people."""
    users = User.objects.bulk_create(
        User(email=f"watcher-{next(_numbers)}@example.org", password="!") for _ in range(count)
    )
    tokens = [token_make() for _ in users]
    ApiKey.objects.bulk_create(
        ApiKey(user=user, name="live", prefix=one.prefix, secret_hash=one.secret_hash, scopes=["events:read"])
        for user, one in zip(users, tokens, strict=True)
    )
    return [one.reveal() for one in tokens]


@dataclass
class Event:
    """One block, as it stood on the wire; `data` is empty for one that is dispatched to nobody."""

    id: int | None = None
    event: str = ""
    data: Any = None
    retry: int | None = None


@dataclass
class Watcher:
    """One client. Like a browser's: it keeps the last id that it has read, also when it is cut off."""

    port: int
    key: str
    last_id: int | None = None
    seen: list[Event] = field(default_factory=list)
    beaten: int = 0
    _link: http.client.HTTPConnection | None = None
    _answer: http.client.HTTPResponse | None = None

    def open(
        self, *, query: str = "", headers: Mapping[str, str] | None = None, timeout: float = 15
    ) -> "Watcher":
        status, names, body = self.ask(query=query, headers=headers, timeout=timeout)
        assert status == 200, body
        assert names["content-type"] == "text/event-stream; charset=utf-8"
        greeting = self.block()
        assert greeting.data is None
        assert greeting.retry is not None
        assert 1_000 <= greeting.retry < 3_000
        return self

    def ask(
        self, *, query: str = "", headers: Mapping[str, str] | None = None, timeout: float = 15, method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
        self.close()
        sent = {"Authorization": f"Bearer {self.key}", "Accept": "text/event-stream"}
        if self.last_id is not None:
            sent["Last-Event-ID"] = str(self.last_id)
        self._link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        self._link.request(method, PATH + query, headers={**sent, **(headers or {})})
        self._answer = self._link.getresponse()
        names = {name.lower(): value for name, value in self._answer.getheaders()}
        streaming = self._answer.status == 200 and method == "GET"
        return self._answer.status, names, b"" if streaming else self._answer.read()

    def block(self) -> Event:
        """The next block; raises `EOFError` when the stream has ended, `TimeoutError` when nothing came in time."""
        assert self._answer is not None
        found = Event()
        while True:
            line = self._answer.readline()
            if not line:
                raise EOFError
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name in ("id", "retry"):
                setattr(found, name, int(value))
            elif name == "event":
                found.event = value
            elif name == "data":
                found.data = json.loads(value)
            elif line == b":\n":
                self.beaten += 1
            elif line == b"\n" and found != Event():
                if found.id is not None:
                    self.last_id = found.id
                return found

    @property
    def quiet_seconds(self) -> float:
        """How long nothing was said, by the process's own heartbeats: held up, it is late with these, too."""
        return self.beaten * STREAM_HEARTBEAT_SECONDS

    def beats(self, count: int) -> None:
        """Until so many heartbeats came, and nothing else."""
        assert self._answer is not None
        for _ in range(count):
            assert [self._answer.readline(), self._answer.readline()] == [b":\n", b"\n"]

    def events(self, count: int) -> list[Event]:
        """The next `count` events."""
        found = [self.block() for _ in range(count)]
        self.seen += found
        return found

    def rest(self) -> list[Event]:
        """What still comes before the stream ends, or breaks off."""
        found = []
        with suppress(EOFError, http.client.HTTPException, OSError):
            while True:
                found.append(self.block())
        self.seen += [one for one in found if one.id is not None]
        return found

    def close(self) -> None:
        for part in (self._answer, self._link):
            if part is not None:
                part.close()
        self._answer = self._link = None


class Process:
    """One stream role, as production starts it."""

    def __init__(self, child: Child, port: int) -> None:
        self.child, self.port = child, port

    def watcher(self, person: Person, *, last_id: int | None = None) -> Watcher:
        return Watcher(self.port, person.key, last_id)

    def said(self) -> str:
        return self.child.log.read_text()

    def worker_pids(self) -> list[int]:
        path = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def proportional_kilobytes(self) -> int:
        """What the role's processes take of the machine's memory, shared pages counted by their share."""
        total = 0
        for pid in [self.child.pid, *self.worker_pids()]:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE)[0])
        return total


def database_url() -> str:
    found = connection.settings_dict
    password = f":{quote(found['PASSWORD'])}" if found["PASSWORD"] else ""
    return f"postgresql://{quote(found['USER'])}{password}@{found['HOST']}:{found['PORT']}/{found['NAME']}"


@contextmanager
def process_open(directory: Path, **environment: str) -> Iterator[Process]:
    """A stream process on the tests' database, ended by SIGKILL if it is still there."""
    directory.mkdir(parents=True, exist_ok=True)
    whole = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "REDIS_URL": settings.REDIS_URL,
        "DJANGO_SETTINGS_MODULE": "tests.stream.stream_settings",
        "SERVICE_NAME": "stream",
        "LOG_FORMAT": "json",
        # The tests reconnect more often than people may.
        "API_LIMIT_PER_SECOND": "1000",
        **environment,
    }

    def make(port: int) -> Child:
        return Child(
            name="stream",
            argv=[sys.executable, "-m", "config.roles", "stream"],
            log=directory / "stream.log",
            environment={**whole, "STREAM_PORT": str(port)},
            directory=settings.BASE_DIR,
        )

    def ready(port: int, child: Child) -> bool:
        del child
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            link.request("GET", "/api/v1/health")
            return link.getresponse().status == 200
        except OSError:
            return False
        finally:
            link.close()

    child, port = child_start_on_free_port(make, ready=ready, seconds=40)
    try:
        yield Process(child, port)
    finally:
        child.kill()


def raw_open(port: int, key: str, *, receive_bytes: int | None = None) -> socket.socket:
    """A connection that asks for the stream and, unless somebody reads, never reads."""
    link = socket.socket()
    if receive_bytes is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    link.settimeout(15)
    link.connect(("127.0.0.1", port))
    head = f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n"
    link.sendall(head.encode())
    return link


def read_until(link: socket.socket, text: bytes) -> bytes:
    found = b""
    while text not in found:
        part = link.recv(4_096)
        assert part, found
        found += part
    return found


def until(condition: Any, *, seconds: float = 30, what: str = "it") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
