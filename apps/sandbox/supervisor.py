"""Every process of the platform, started as production starts them, beside the sandbox's services."""

import http.client
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import json_read, tail
from apps.sandbox.runtime.paths import ROOT_DIR
from apps.sandbox.runtime.ports import HOST, port_is_free, port_pick
from apps.sandbox.runtime.processes import Child, Console
from apps.sandbox.runtime.sandbox import Sandbox

ROLES = ("web", "stream", "worker", "background", "signer", "beat", "flower")
# Beat first, so that nothing new is rung; the services go last, when nobody needs them any more.
_STOP_ORDER = ("beat", "flower", "stream", "web", "worker", "background", "signer")
_PORTS = {"web": ("PORT", 8000), "stream": ("STREAM_PORT", 8001), "flower": ("FLOWER_PORT", 5555)}
_OF_THE_BROKER = ("worker", "background", "signer", "beat")
# What is left for a worker beside the background role, as docker-compose.yml and docs/deploy.md have it.
MONEY_QUEUES = "plans,chain,default"
READY_PATH = "/api/v1/health/ready"
OPERATOR_FILE = "operator.json"
# A worker that is in the middle of a task needs up to ten seconds to hand it back (config/celery.py).
_GRACE_SECONDS = 14
# A role that lives shorter than this has failed at its start; it waits longer each time.
_STEADY_SECONDS = 20.0
_PAUSE_CAP_SECONDS = 30.0
_START_SECONDS = 180.0


@dataclass
class _Run:
    """A role's process: since when it runs, and when it may be started again."""

    child: Child
    started_at: float
    failures: int = 0
    again_at: float | None = None


class Supervisor:
    """Owns a `Sandbox` and the roles of `config.roles`; children never outlive it.

    `services` names parts that run elsewhere (`database_url`, `redis_url`, `rpc_url`, as `Sandbox` takes them).
    `free_ports` ignores the usual ports and those that the environment names.
    With a `console` the roles speak there, otherwise only into their logs below `directory/logs`.
    Not for use by several threads.
    """

    def __init__(
        self,
        directory: Path,
        *,
        roles: Sequence[str] = ROLES,
        console: Console | None = None,
        fsync: bool = True,
        services: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        free_ports: bool = False,
    ) -> None:
        self.sandbox = Sandbox(directory, fsync=fsync, **(services or {}))
        self.directory = self.sandbox.directory
        self.roles = tuple(roles)
        self._console = console
        self._extra = dict(environment or {})
        self._free_ports = free_ports
        self._runs: dict[str, _Run] = {}
        self._preparing: Child | None = None
        self._pause = threading.Event()

    # Life

    def start(self) -> None:
        """Start the services, fill the database, start the roles, and wait until all of them answer.

        Raises `SandboxBusyError` when the directory has an owner, `SandboxError` when a part does not come up
        (with the end of its log). Whatever is raised, nothing stays behind running.
        """
        started = time.monotonic()
        try:
            self._say("PostgreSQL, Valkey and anvil start")
            self.sandbox.start()
            self._say(f"services answer after {time.monotonic() - started:.1f} s; migrating and seeding")
            self.prepare()
            self._say(
                f"database is ready after {time.monotonic() - started:.1f} s; starting {', '.join(self.roles)}"
            )
            # Flower asks the workers who they are when it starts, so they have to be there.
            self._start_roles([role for role in self.roles if role != "flower"])
            self._start_roles([role for role in self.roles if role == "flower"])
            self._say(f"everything answers after {time.monotonic() - started:.1f} s")
        except BaseException:
            self.stop()
            raise

    def prepare(self) -> None:
        """Migrate and seed, in a process of its own: this one's Django knows no database."""
        child = self.command_child("prepare", ["sandbox", "prepare"], keys=True)
        self._preparing = child
        child.start()
        status = child.wait()
        self._preparing = None
        if status != 0:
            raise SandboxError(f"preparing the database failed ({status}):\n{tail(child.log)}")

    def watch(self) -> None:
        """Restart what dies, and say so; returns only by an exception (Ctrl-C) or when the chain is lost."""
        while True:
            self._pause.wait(0.2)
            self.look()

    def look(self) -> None:
        """One round of `watch`. Raises `SandboxError` when the chain died: its last seconds are gone."""
        for name, service in (("postgres", self.sandbox.postgres), ("valkey", self.sandbox.valkey)):
            if service is not None and not service.running:
                self._say(f"{name} died; starting it again")
                service.start()
                self.sandbox.write()
        if self.sandbox.anvil is not None and not self.sandbox.anvil.running:
            raise SandboxError(
                f"the chain died, and its last seconds with it:\n{tail(self.sandbox.anvil.log)}"
            )
        for name, run in self._runs.items():
            if not run.child.running:
                self._revive(name, run)

    def stop(self) -> None:
        """Stop roles, then services. Safe to repeat, and after a start that failed halfway."""
        if self._preparing is not None:
            self._preparing.stop(grace_seconds=2)
        runs = [self._runs[name] for name in _STOP_ORDER if name in self._runs]
        for run in runs:
            run.child.signal(run.child.stop_signal)
        for run in runs:
            # Asked once: Celery takes a second SIGTERM for impatience and drops what it works on.
            run.child.wait(seconds=_GRACE_SECONDS)
            run.child.stop(grace_seconds=1)
        self.sandbox.stop()

    def destroy(self) -> None:
        """Stop, and remove the directory with all data."""
        self.stop()
        self.sandbox.destroy()

    # What is where

    @property
    def urls(self) -> dict[str, str]:
        return self.sandbox.urls()

    @property
    def operator(self) -> dict[str, str]:
        """`email`, `password` and `totp_secret` of the login for the admin."""
        found: dict[str, str] = json_read(self.directory / OPERATOR_FILE) or {}
        return found

    def child(self, role: str) -> Child:
        return self._runs[role].child

    def environment(self, *, keys: bool = False) -> dict[str, str]:
        """A child's environment. `keys` leaves it the keys' key: only for the signer and for who makes wallets."""
        base = {
            **os.environ,
            # The local settings have a published default; an empty value is what production's other roles have.
            **({} if keys else {"SIGNER_KEYS": "", "SIGNER_DEPOSIT_XPRV": ""}),
            "PYTHONUNBUFFERED": "1",
            "LOG_FORMAT": "console",
            # Celery's advice against root is for production; in a container of the sandbox root is who there is.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
            **self._extra,
            **self.sandbox.environment(),
        }
        base.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
        return base

    def command_child(self, name: str, arguments: Sequence[str], *, keys: bool = False) -> Child:
        """`manage.py` with `arguments` as a child that is not started yet; its output goes to its log."""
        return Child(
            name=name,
            argv=[sys.executable, ROOT_DIR / "manage.py", *arguments],
            log=self.directory / "logs" / f"{name}.log",
            environment=self.environment(keys=keys),
            directory=ROOT_DIR,
        )

    # Inside

    def _start_roles(self, roles: Sequence[str]) -> None:
        """Start them side by side and wait until each answers."""
        for role in roles:
            heart = self._heartbeat(role)
            heart.parent.mkdir(parents=True, exist_ok=True)
            heart.unlink(missing_ok=True)
            environment = {**self.environment(keys=role == "signer"), "HEARTBEAT_DIR": str(heart.parent)}
            if role == "worker" and "background" in self.roles:
                environment["WORKER_QUEUES"] = MONEY_QUEUES
            if role in _PORTS:
                variable, usual = _PORTS[role]
                port = port_pick() if self._free_ports else _port(os.environ.get(variable), usual)
                environment[variable] = str(port)
                self.sandbox.publish(urls={"api" if role == "web" else role: f"http://{HOST}:{port}"})
            child = Child(
                name=role,
                argv=[sys.executable, "-m", "config.roles", role],
                log=self.directory / "logs" / f"{role}.log",
                environment=environment,
                directory=ROOT_DIR,
                console=self._console,
                # When the supervisor is killed the broker goes too, and who is asked to end would wait for it.
                death_signal=signal.SIGKILL if role in _OF_THE_BROKER else signal.SIGTERM,
            )
            self._runs[role] = _Run(child, time.monotonic())
            child.start()
        self._publish()
        self._wait_for(roles)

    def _wait_for(self, roles: Sequence[str]) -> None:
        deadline, waiting = time.monotonic() + _START_SECONDS, list(roles)
        while waiting:
            for role in roles:
                child = self._runs[role].child
                if not child.running:
                    raise SandboxError(f"{role} exited ({child.exit_status}) at start:\n{tail(child.log)}")
            waiting = [role for role in waiting if not self._answers(role)]
            if waiting and time.monotonic() > deadline:
                said = tail(self._runs[waiting[0]].child.log)
                raise SandboxError(f"{', '.join(waiting)} did not answer in time:\n{said}")
            self._pause.wait(0.1)

    def _answers(self, role: str) -> bool:
        """Whether a role does its work: HTTP, a heartbeat to the broker, and for the worker work done."""
        if role == "web":
            return _http_ok(self.urls["api"], READY_PATH)
        if role == "stream":
            return _http_ok(self.urls["stream"], READY_PATH)
        if role == "flower":
            return _http_ok(self.urls["flower"], "/healthcheck")
        beating = self._heartbeat(role).exists()
        return beating and (role != "worker" or "beat" not in self.roles or self._probe_closed())

    def _probe_closed(self) -> bool:
        """Whether the durable no-op that `prepare` left is done: beat rang, and a worker heard and worked."""
        with psycopg.connect(self.urls["database"]) as connection:
            row = connection.execute("SELECT count(*) FROM core_workprobe WHERE state = 'open'").fetchone()
        return row == (0,)

    def _revive(self, name: str, run: _Run) -> None:
        now = time.monotonic()
        if run.again_at is None:
            run.failures = 1 if now - run.started_at > _STEADY_SECONDS else run.failures + 1
            pause = 0.0 if run.failures == 1 else min(2.0**run.failures, _PAUSE_CAP_SECONDS)
            run.again_at = now + pause
            after = f"in {pause:.0f} s" if pause else "at once"
            self._say(f"{name} died ({_ended(run.child.exit_status)}); starting it again {after}")
            # Its own children may live on: a killed worker's pool processes do.
            run.child.stop(grace_seconds=0)
        if now >= run.again_at:
            run.child.start()
            run.started_at, run.again_at = now, None
            self._publish()

    def _publish(self) -> None:
        self.sandbox.publish(pids={name: run.child.pid for name, run in self._runs.items()})

    def _heartbeat(self, role: str) -> Path:
        # The file's name is config/health.py's; each role needs a directory of its own.
        return self.directory / "hearts" / role / "tranche.heartbeat"

    def _say(self, text: str) -> None:
        if self._console is not None:
            self._console.line("sandbox", text)


def _port(wanted: str | None, usual: int) -> int:
    """The port that the environment asks for, else the usual one, else any that is free."""
    if wanted:
        return int(wanted)
    return usual if port_is_free(usual) else port_pick()


def _ended(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"


def _http_ok(url: str, path: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
