"""The whole platform with real processes, made to be broken: one stack, many cases, one after the other."""

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.supervisor import Supervisor
from tests.support.rpc_proxy import RpcProxy

ROLES = ("worker", "signer", "beat")
# Lease times are scaled down, so that a killed worker's rows are free after seconds, not a minute.
LEASE_SCALE = "0.1"


class Stack(Supervisor):
    """A supervisor whose roles can be restarted with failpoints, and whose chain is reached through a proxy."""

    def __init__(self, directory: Path, *, fsync: bool = False) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        super().__init__(
            directory,
            roles=ROLES,
            fsync=fsync,
            free_ports=True,
            environment={"LEASE_SCALE": LEASE_SCALE, "LOG_LEVEL": "INFO"},
        )
        self.proxy: RpcProxy | None = None
        self._failpoints: dict[str, str] = {}
        self._watching = threading.Event()
        self._guard = threading.Lock()
        self._watcher: threading.Thread | None = None

    def services_start(self) -> None:
        """Services, schema and seed; no role yet."""
        self.sandbox.start()
        self.prepare()
        assert self.sandbox.anvil is not None
        self.proxy = RpcProxy(self.sandbox.anvil.url)
        self.proxy.start()

    def roles_start(self, *, failpoints: Mapping[str, str] | None = None) -> None:
        """Start worker, signer and beat, the named roles with their `FAILPOINTS`; what dies is restarted."""
        self._failpoints = dict(failpoints or {})
        self._start_roles(ROLES)
        self._watching.set()
        self._watcher = threading.Thread(target=self._watch_quietly, daemon=True)
        self._watcher.start()

    def environment(self, *, keys: bool = False) -> dict[str, str]:
        """A role's environment; only the signer gets keys, and so is told from the others here."""
        armed = self._failpoints.get("signer" if keys else "worker", "")
        return {**super().environment(keys=keys), "FAILPOINTS": armed}

    def roles_stop(self) -> None:
        self._watching.clear()
        if self._watcher is not None:
            self._watcher.join()
        for run in self._runs.values():
            run.child.signal(run.child.stop_signal)
        for run in self._runs.values():
            run.child.stop(grace_seconds=14)
        self._runs.clear()
        self._failpoints.clear()
        shutil.rmtree(self.directory / "failpoints", ignore_errors=True)

    def kill(self, role: str) -> None:
        """SIGKILL the role with its pool, as when its machine is lost."""
        with self._guard:
            self._runs[role].child.kill()

    def fired(self, name: str) -> bool:
        """Whether a process really died at this failpoint."""
        return (self.directory / "failpoints" / name).exists()

    def destroy(self) -> None:
        self.roles_stop()
        if self.proxy is not None:
            self.proxy.stop()
        super().destroy()

    def _watch_quietly(self) -> None:
        while self._watching.is_set():
            with self._guard:
                for name, run in self._runs.items():
                    if not run.child.running:
                        # At once, every time: the pauses of the supervisor are for people who read its output.
                        run.failures = 0
                        self._revive(name, run)
            self._pause.wait(0.1)


def wait_until(done: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Poll until `done`; answers how long it took. Raises `SandboxError` naming `what` when it never was."""
    started = time.monotonic()
    pause = threading.Event()
    while not done():
        if time.monotonic() - started > seconds:
            raise SandboxError(f"not within {seconds:.0f} s: {what}")
        pause.wait(0.03)
    return time.monotonic() - started
