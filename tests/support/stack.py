"""The whole platform with real processes, made to be broken: one stack, many cases, one after the other."""

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.supervisor import Supervisor
from tests.support.rpc_proxy import RpcProxy

# Its worker does background work too; with the role of that name among them, money alone.
ROLES = ("worker", "signer", "beat")
# Lease times are scaled down, so that a killed worker's rows are free after seconds, not a minute.
LEASE_SCALE = "0.1"
# How many times longer than on a quiet machine what must happen is waited for.
PATIENCE = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stack(Supervisor):
    """A supervisor whose roles can be restarted with failpoints, and whose chain is reached through a proxy."""

    def __init__(self, directory: Path, *, fsync: bool = False, roles: Sequence[str] = ROLES) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        super().__init__(
            directory,
            roles=roles,
            fsync=fsync,
            free_ports=True,
            environment={"LEASE_SCALE": LEASE_SCALE, "LOG_LEVEL": "INFO"},
        )
        self.proxy: RpcProxy | None = None
        # A second way to the same node, for cases in which endpoints disagree; no role knows it until it is added.
        self.proxy_second: RpcProxy | None = None
        # What went wrong while a dead role was started again; a case with such trouble proves nothing.
        self.trouble: list[str] = []
        self._failpoints: dict[str, str] = {}
        self._watching = threading.Event()
        self._guard = threading.Lock()
        self._watcher: threading.Thread | None = None

    def services_start(self) -> None:
        """Services, schema and seed; no role yet."""
        self.sandbox.start()
        self.prepare()
        assert self.sandbox.anvil is not None
        self.proxy, self.proxy_second = RpcProxy(self.sandbox.anvil.url), RpcProxy(self.sandbox.anvil.url)
        self.proxy.start()
        self.proxy_second.start()

    def roles_start(self, *, failpoints: Mapping[str, str] | None = None) -> None:
        """Have the stack's roles running, the named ones with their `FAILPOINTS`; what dies is restarted.

        Roles that run already with the same failpoints go on: processes live long, and starting one is what costs.
        """
        wanted = dict(failpoints or {})
        with self._guard:
            fresh = [role for role in self.roles if not self._as_wanted(role, wanted)]
            for role in fresh:
                if role in self._runs:
                    self._runs.pop(role).child.kill()
                (self.directory / "logs" / f"{role}.log").unlink(missing_ok=True)
            self._failpoints = wanted
            self.trouble.clear()
            self._start_roles(fresh)
        if self._watcher is None:
            self._watching.set()
            self._watcher = threading.Thread(target=self._watch_quietly, daemon=True)
            self._watcher.start()
        wait_until(
            lambda: all(self._answers(role) for role in fresh), seconds=90, what=f"{', '.join(fresh)} answer"
        )

    @property
    def roles_running(self) -> bool:
        return bool(self._runs)

    def _as_wanted(self, role: str, failpoints: Mapping[str, str]) -> bool:
        run = self._runs.get(role)
        same = role == "beat" or self._failpoints.get(role) == failpoints.get(role)
        return run is not None and run.child.running and same

    def _wait_for(self, roles: Sequence[str]) -> None:
        """Not here: a role may die at its start, by a failpoint, and is waited for while it is watched."""

    def environment(self, *, keys: bool = False) -> dict[str, str]:
        """A role's environment; only the signer gets keys, and so is told from the others here."""
        armed = self._failpoints.get("signer" if keys else "worker", "")
        return {**super().environment(keys=keys), "FAILPOINTS": armed}

    def roles_stop(self) -> None:
        self._watching.clear()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        for run in self._runs.values():
            run.child.signal(run.child.stop_signal)
        for run in self._runs.values():
            run.child.stop(grace_seconds=14)
        self._runs.clear()
        self._failpoints.clear()

    def failpoints_hold(self, names: Iterable[str]) -> None:
        """Keep armed failpoints from firing (as if they had), until they are released."""
        markers = self.directory / "failpoints"
        markers.mkdir(parents=True, exist_ok=True)
        for name in names:
            (markers / name).touch()

    def failpoint_release(self, name: str) -> None:
        """The next process that passes it dies there."""
        (self.directory / "failpoints" / name).unlink(missing_ok=True)

    def kill(self, role: str) -> None:
        """SIGKILL the role with its pool, as when its machine is lost."""
        with self._guard:
            self._runs[role].child.kill()

    def logs_keep(self, to: Path) -> None:
        """Copy what roles (since they were started last) and services said."""
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        for log in self.directory.rglob("*.log"):
            shutil.copy(log, to / log.name)

    def fired(self, name: str) -> bool:
        """Whether a process really died at this failpoint since it was released."""
        return (self.directory / "failpoints" / name).exists()

    def destroy(self) -> None:
        self.roles_stop()
        for proxy in (self.proxy, self.proxy_second):
            if proxy is not None:
                proxy.stop()
        super().destroy()

    def _watch_quietly(self) -> None:
        while self._watching.is_set():
            with self._guard:
                for name, run in self._runs.items():
                    if not run.child.running:
                        # At once, every time: the pauses of the supervisor are for people who read its output.
                        run.failures = 0
                        try:
                            self._revive(name, run)
                        except Exception as error:  # noqa: BLE001 — said by the case; the next round tries again
                            self.trouble.append(f"{name} was not started again: {error!r}")
            self._pause.wait(0.1)


@contextmanager
def stack_open(directory: Path, *, fsync: bool = False, roles: Sequence[str] = ROLES) -> Iterator[Stack]:
    """A stack with its services, stopped and removed however the block ends.

    SIGINT, SIGTERM and SIGHUP end the block by `SystemExit` with 128 + number; from then on they are ignored, since
    what stops, stops whole. That is bounded by the graces that children are given.
    """

    def end(number: int, _: object) -> None:
        _ignore()
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    stack = Stack(directory, fsync=fsync, roles=roles)
    try:
        stack.services_start()
        yield stack
    finally:
        _ignore()
        stack.destroy()
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def wait_until(
    done: Callable[[], bool], *, seconds: float, what: str | Callable[[], str], pause_seconds: float = 0.03
) -> float:
    """Poll until `done`; answers how long it took. Raises `SandboxError` naming `what` when it never was."""
    started = time.monotonic()
    pause = threading.Event()
    patience = seconds * PATIENCE
    while not done():
        if time.monotonic() - started > patience:
            said = what if isinstance(what, str) else what()
            raise SandboxError(f"not within {patience:.0f} s: {said}")
        pause.wait(pause_seconds)
    return time.monotonic() - started
