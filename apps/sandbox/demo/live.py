"""Somebody watches: the live stream of one person, whatever ends it, in a thread of its own."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from apps.sandbox.demo.app import App
from apps.sandbox.demo.client import Person
from apps.sandbox.runtime.errors import SandboxError

# Longer than the pause between two heartbeats.
_QUIET_SECONDS = 40.0
# The connection is cut on purpose when so many events have come by it, the rest of them unread.
_CUT_EVERY = 6


class Live:
    """Follows a stream from the beginning; comes back after every end, with the last id that it has."""

    def __init__(self, *, url: str, app: App) -> None:
        self._app = app
        self._http = httpx.Client(base_url=f"{url}/api/v1/", timeout=_QUIET_SECONDS)
        self._thread = threading.Thread(target=self._watch, name="live", daemon=True)
        self._over = threading.Event()
        self._retry_seconds = 1.0
        self._last_id = 0
        self._error: Exception | None = None
        self.events: list[dict[str, Any]] = []
        # `resumed`: the cuts after which more events came. The last cut may fall on the last event.
        self.connections = self.cuts = self.resumed = 0
        # How the service ended streams, and how often.
        self.ends: dict[str, int] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The thread ends with what it hears next, or with the process."""
        self._over.set()

    def has(self, sequence: int) -> bool:
        """Whether everything up to `sequence` has come. Raises `SandboxError` when the watching failed."""
        if self._error is not None:
            raise SandboxError(f"the live stream was lost: {self._error}") from self._error
        return self._last_id >= sequence

    def _watch(self) -> None:
        try:
            while not self._over.is_set():
                try:
                    self._follow()
                except httpx.TransportError:
                    self._end("lost")
                self._over.wait(self._retry_seconds)
        except Exception as error:  # noqa: BLE001 — told by `has`, in the thread that waits
            self._error = error

    def _follow(self) -> None:
        """One connection, to its end."""
        bearer = self._app.bearer
        headers = {"Authorization": f"Bearer {bearer}", "Last-Event-ID": str(self._last_id)}
        with self._http.stream("GET", "stream", headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                self._app.mend(response, bearer=bearer)
                self._retry_seconds = 0.0
                return
            self.connections += 1
            came = 0
            for block in _blocks(response):
                if self._over.is_set():
                    return
                if "retry" in block:
                    self._retry_seconds = int(block["retry"]) / 1_000
                if block.get("event") == "stream.closed":
                    self._end(json.loads(block["data"])["reason"])
                    return
                if "data" in block:
                    self.events.append({**json.loads(block["data"]), "id_line": block["id"]})
                    came += 1
                    self.resumed = self.cuts
                self._last_id = int(block.get("id", self._last_id))
                if came == _CUT_EVERY:
                    self.cuts += 1
                    return

    def _end(self, reason: str) -> None:
        self.ends[reason] = self.ends.get(reason, 0) + 1


@dataclass(frozen=True)
class Watch:
    """Who watches, and what they see."""

    person: Person
    live: Live


def _blocks(response: httpx.Response) -> Iterator[dict[str, str]]:
    """The stream's blocks by field (HTML standard, section 9.2.6); comments are blocks without fields."""
    block: dict[str, str] = {}
    for line in response.iter_lines():
        if line == "":
            yield block
            block = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            block[name] = value.removeprefix(" ")
