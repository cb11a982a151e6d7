"""The three services together, in one directory, with one owner."""

import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from apps.sandbox.deploy import deployment_cached, deployment_ensure
from apps.sandbox.market import Market
from apps.sandbox.runtime import offset
from apps.sandbox.runtime.anvil import Anvil, chain_state_check
from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.runtime.errors import SandboxBusyError, SandboxError
from apps.sandbox.runtime.files import FileLock, file_write, json_read, json_write
from apps.sandbox.runtime.paths import DEFAULT_SANDBOX_DIR
from apps.sandbox.runtime.postgres import Postgres
from apps.sandbox.runtime.processes import process_kill
from apps.sandbox.runtime.rpc import Rpc
from apps.sandbox.runtime.status import ENVIRONMENT_FILE, LOCK_FILE, STATE_FILE, process_started_at
from apps.sandbox.runtime.valkey import Valkey


class Sandbox:
    """PostgreSQL, Valkey and anvil with the contracts deployed; a part whose URL is given is not started.

    `block_time_seconds=None` mines per transaction. `with_chain=False` leaves the chain out.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        fsync: bool = True,
        block_time_seconds: int | None = 1,
        with_chain: bool = True,
        database_url: str | None = None,
        redis_url: str | None = None,
        rpc_url: str | None = None,
    ) -> None:
        self.directory = (directory or DEFAULT_SANDBOX_DIR).resolve()
        self.postgres = None if database_url else Postgres(self.directory / "postgres", fsync=fsync)
        self.valkey = None if redis_url else Valkey(self.directory / "valkey")
        self.chain_state = self.directory / "chain" / "state.json"
        self.anvil = (
            Anvil(
                self.directory / "chain",
                state=self.chain_state,
                block_time_seconds=block_time_seconds,
            )
            if with_chain and not rpc_url
            else None
        )
        self._given = {"database": database_url, "broker": redis_url, "rpc": rpc_url}
        self._lock = FileLock(self.directory / LOCK_FILE)
        self._deployment: Deployment | None = None
        self._extra_urls: dict[str, str] = {}
        self._extra_pids: dict[str, int] = {}

    def __enter__(self) -> "Sandbox":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def deployment(self) -> Deployment:
        if self._deployment is None:
            raise SandboxError("the sandbox has no chain, or was not started")
        return self._deployment

    @property
    def rpc(self) -> Rpc:
        """A client of the chain's endpoint."""
        if self.anvil is not None:
            return self.anvil.rpc
        if self._given["rpc"] is None:
            raise SandboxError("the sandbox has no chain")
        return Rpc(self._given["rpc"])

    @property
    def market(self) -> Market:
        return Market(self.rpc, self.deployment)

    def start(self) -> None:
        """Start all parts at once. Raises `SandboxBusyError` when another process owns the directory.

        Whatever fails, nothing stays behind running.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._acquire():
            owner = (json_read(self.directory / STATE_FILE) or {}).get("owner_pid", "unknown")
            raise SandboxBusyError(f"a sandbox runs in {self.directory} already (pid {owner}); stop it first")
        try:
            self._sweep()
            starts: list[Callable[[], None]] = [
                part.start for part in (self.postgres, self.valkey) if part is not None
            ]
            starts.append(self._start_chain)
            with ThreadPoolExecutor(len(starts)) as pool:
                for result in [pool.submit(start) for start in starts]:
                    result.result()
            self.write()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all parts cleanly and remove the files that say they run; the data stays. Safe to repeat."""
        if not self._lock.held:
            return
        try:
            # One after the other, in this thread: an interpreter that is going down starts no new ones.
            for part in (self.anvil, self.valkey, self.postgres):
                if part is not None:
                    part.stop()
        finally:
            for name in (STATE_FILE, ENVIRONMENT_FILE):
                (self.directory / name).unlink(missing_ok=True)
            self._lock.release()

    def destroy(self) -> None:
        """Stop, and remove the directory with all data."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def urls(self) -> dict[str, str]:
        """`database`, `broker`, `rpc`, and what `publish` added."""
        found = {
            "database": self._given["database"] or (self.postgres.url if self.postgres else None),
            "broker": self._given["broker"] or (self.valkey.url if self.valkey else None),
            "rpc": self._given["rpc"] or (self.anvil.url if self.anvil else None),
        }
        return {**{name: url for name, url in found.items() if url}, **self._extra_urls}

    def pids(self) -> dict[str, int]:
        parts = {"postgres": self.postgres, "valkey": self.valkey, "anvil": self.anvil}
        return {**{name: part.pid for name, part in parts.items() if part is not None}, **self._extra_pids}

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use this sandbox."""
        urls = self.urls()
        names = {"database": "DATABASE_URL", "broker": "REDIS_URL", "rpc": "RPC_URL"}
        return {
            **{names[name]: url for name, url in urls.items() if name in names},
            "SANDBOX_DIR": str(self.directory),
        }

    def publish(self, *, urls: dict[str, str] | None = None, pids: dict[str, int] | None = None) -> None:
        """Add a supervisor's URLs and pids (API, Flower, worker …) to what `sandbox_status` answers."""
        self._extra_urls.update(urls or {})
        self._extra_pids.update(pids or {})
        self.write()

    def write(self) -> None:
        """Write `sandbox.env` and `state.json`; again after a part was restarted with another pid."""
        environment = "".join(f"{name}={value}\n" for name, value in sorted(self.environment().items()))
        file_write(self.directory / ENVIRONMENT_FILE, environment, mode=0o600)
        json_write(
            self.directory / STATE_FILE,
            {
                "owner_pid": os.getpid(),
                "started_at": datetime.now(UTC).isoformat(),
                "urls": self.urls(),
                "pids": {
                    name: {"pid": pid, "start": process_started_at(pid)} for name, pid in self.pids().items()
                },
                "deployment": None if self._deployment is None else self._deployment.as_dict(),
            },
        )
        (self.directory / STATE_FILE).chmod(0o600)

    def travel(self, *, seconds: int | None = None, to: datetime | None = None, refresh: bool = True) -> int:
        """Move the directory's clock and the chain together; answers the new offset in seconds."""
        rpc = self.rpc if self._deployment is not None else None
        moved = offset.travel(self.directory, rpc=rpc, seconds=seconds, to=to)
        if refresh and self._deployment is not None:
            self.market.refresh_feeds()
        return moved

    def _acquire(self) -> bool:
        """Take the directory's lock; a look at its status holds it for an instant, an owner for long."""
        pause = threading.Event()
        for _ in range(20):
            if self._lock.acquire(wait=False):
                return True
            pause.wait(0.025)
        return False

    def _start_chain(self) -> None:
        if self.anvil is None:
            if self._given["rpc"]:
                self._deployment = deployment_ensure(Rpc(self._given["rpc"]))
            return
        cached, self._deployment = deployment_cached()
        if not self.chain_state.exists():
            file_write(self.chain_state, cached.read_bytes())
        chain_state_check(self.chain_state)
        self.anvil.start()
        # A node forgets its clock's offset when it stops, and its last block may be ahead of the wall clock.
        at = max(offset.offset_now(self.directory), self.anvil.block_at() + 1)
        self.anvil.time_set(at=at)
        self.market.refresh_feeds()

    def _sweep(self) -> None:
        """After a crash, wait for the last owner's children to end, then end them.

        We hold the lock, so their owner is gone; a pid counts only with the start tick that was written.
        """
        state = json_read(self.directory / STATE_FILE)
        if state is None:
            return
        pause = threading.Event()
        for entry in state.get("pids", {}).values():
            pid, started = int(entry["pid"]), entry["start"]
            for _ in range(100):
                if started is None or process_started_at(pid) != started:
                    break
                pause.wait(0.05)
            else:
                process_kill(pid)
        for name in (STATE_FILE, ENVIRONMENT_FILE):
            (self.directory / name).unlink(missing_ok=True)
