"""`manage.py sandbox up` as a terminal sees it: a process, its lines, its descendants."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from apps.sandbox.runtime.paths import ROOT_DIR
from apps.sandbox.runtime.ports import port_pick

READY = "Ctrl-C stops everything"


def clean_environment(**more: str) -> dict[str, str]:
    """The environment of a newcomer's terminal: without what the test run itself set."""
    ours = {
        *("DATABASE_URL", "REDIS_URL", "RPC_URL", "SANDBOX_DIR", "DJANGO_SETTINGS_MODULE", "FAILPOINTS"),
        *("PORT", "STREAM_PORT", "FLOWER_PORT"),
    }
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, **more}


class Terminal:
    """One directory in which `up` may run, and other terminals beside it."""

    def __init__(self, directory: Path, *, ports: bool = True) -> None:
        """`ports=False` asks for no ports of its own, as a newcomer does."""
        self.directory = directory
        own = {name: str(port_pick()) for name in ("PORT", "STREAM_PORT", "FLOWER_PORT")} if ports else {}
        self.environment = clean_environment(SANDBOX_DIR=str(directory), **own)
        self.up: subprocess.Popen[str] | None = None
        self.log = directory.parent / f"{directory.name}.up.log"

    def start(self, *, until: str = READY, seconds: float = 180) -> None:
        """Run `up` and wait until it has said `until`."""
        with self.log.open("w") as log:
            self.up = subprocess.Popen(
                [sys.executable, "manage.py", "sandbox", "up"],
                cwd=ROOT_DIR, env=self.environment, stdout=log, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        self.wait_said(until, seconds=seconds)

    def wait_said(self, text: str, *, seconds: float = 30) -> None:
        """Until `up` has printed `text`; fails with all that it printed when it ends or takes longer."""
        assert self.up is not None
        ended = os.pidfd_open(self.up.pid)
        deadline = time.monotonic() + seconds
        try:
            while text not in self.log.read_text():
                gone = bool(select.select([ended], [], [], 0.05)[0])
                if (gone and text not in self.log.read_text()) or time.monotonic() > deadline:
                    raise AssertionError(f"{text!r} was not said:\n{self.log.read_text()[-4000:]}")
        finally:
            os.close(ended)

    def stop(self, number: signal.Signals) -> int:
        """Signal `up` alone, as a terminal or an init does, and answer its exit status."""
        assert self.up is not None
        self.up.send_signal(number)
        return self.up.wait(timeout=90)

    def end(self) -> None:
        """For tear-down: whatever state it is in, nothing of it stays."""
        if self.up is not None and self.up.poll() is None:
            self.stop(signal.SIGTERM)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`manage.py` in another terminal."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT_DIR, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.manage("sandbox", "status", "--json").stdout)
        return found

    def processes(self) -> list[int]:
        """Everything that runs with this directory in its environment, however deep below `up`."""
        return processes_of("SANDBOX_DIR", str(self.directory))


def processes_of(variable: str, value: str) -> list[int]:
    """The living processes (zombies aside) that were started with `variable=value`."""
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            carries = wanted in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if carries and state not in {"Z", "X"}:
            found.append(int(entry.name))
    return sorted(found)
