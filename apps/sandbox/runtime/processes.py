"""Child processes that start together, speak in colour, and never outlive the process that started them."""

import ctypes
import os
import pwd
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import IO, TextIO

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import tail
from apps.sandbox.runtime.ports import port_pick

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_IS_LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True)
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_SpawnJob = tuple[Callable[[], subprocess.Popen[bytes]], "Future[subprocess.Popen[bytes]]"]
_ADDRESS_IN_USE = re.compile(r"address already in use|could not bind|failed listening on port", re.IGNORECASE)


class Console:
    """Prints the lines of several children, each behind its name in its own colour."""

    def __init__(self, *, stream: TextIO | None = None, width: int = 8, colour: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        self._width = width
        self._colour = self._stream.isatty() if colour is None else colour
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()

    def line(self, name: str, text: str) -> None:
        with self._lock:
            number = self._names.setdefault(name, len(self._names))
            prefix = f"{name:<{self._width}} │ "
            if self._colour:
                prefix = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{prefix}\x1b[0m"
            try:
                print(prefix + text.rstrip(), file=self._stream, flush=True)
            except (OSError, ValueError):
                return  # the terminal went away; the log files go on


class _Spawner:
    """One thread, as long-lived as the process, that forks every child.

    Linux sends a child its parent-death signal when the *thread* that forked it ends, so children must
    not be forked by threads that come and go.
    """

    def __init__(self) -> None:
        self._owner = 0
        self._jobs: queue.SimpleQueue[_SpawnJob] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def spawn(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._owner != os.getpid():
                self._owner = os.getpid()
                self._jobs = queue.SimpleQueue()
                threading.Thread(target=self._run, args=(self._jobs,), name="spawner", daemon=True).start()
        future: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((job, future))
        return future.result()

    @staticmethod
    def _run(jobs: "queue.SimpleQueue[_SpawnJob]") -> None:
        while True:
            job, future = jobs.get()
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - the asking thread raises it
                future.set_exception(error)


_spawner = _Spawner()


class Child:
    """A child in a process group of its own, so that Ctrl-C reaches only us and we stop children in order."""

    def __init__(
        self,
        *,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        console: Console | None = None,
        unprivileged: bool = False,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.argv = [str(part) for part in argv]
        self.log = log
        self.stop_signal = stop_signal
        self._environment = dict(os.environ) if environment is None else dict(environment)
        self._directory = directory
        self._console = console
        self._setup = _child_setup(unprivileged=unprivileged, death_signal=death_signal)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The process id. Raises `SandboxError` before the first start."""
        if self._process is None:
            raise SandboxError(f"{self.name} was not started")
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs or before it started; negative for a signal."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Fork and exec. Output goes to the log file, and to the console when there is one."""
        if self.running:
            raise SandboxError(f"{self.name} runs already (pid {self.pid})")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = _spawner.spawn(
                lambda: subprocess.Popen(
                    self.argv,
                    cwd=self._directory,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output if self._console is None else subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    # Takes no lock and imports nothing, so it is safe beside other threads.
                    preexec_fn=self._setup,  # noqa: PLW1509
                )
            )
        if self._console is not None and self._process.stdout is not None:
            self._reader = threading.Thread(
                target=self._copy, args=(self._process.stdout, self._console), name=self.name, daemon=True
            )
            self._reader.start()

    def wait(self, *, seconds: float | None = None) -> int | None:
        """The exit status, or None when it still runs after `seconds`."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: signal.Signals) -> None:
        """Signal the leader alone; it knows its own children best."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the whole group, as the kernel's out-of-memory killer or a lost machine would."""
        if self._process is None:
            return
        self._kill_group()
        self._process.wait()

    def stop(self, *, grace_seconds: float = 10) -> int | None:
        """Ask, wait for the grace, then kill what is left of the group. Does nothing when not running."""
        if self._process is None:
            return None
        self.signal(self.stop_signal)
        if self.wait(seconds=grace_seconds) is None:
            self._kill_group()
        status = self._process.wait()
        self._kill_group()
        if self._reader is not None:
            self._reader.join(timeout=2)
        return status

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return

    def _copy(self, output: IO[bytes], console: Console) -> None:
        with output, self.log.open("ab") as log:
            for line in output:
                log.write(line)
                log.flush()
                console.line(self.name, line.decode(errors="replace"))


def child_start_on_free_port(
    make: Callable[[int], Child],
    *,
    ready: Callable[[int, Child], bool],
    port: int | None = None,
    seconds: float = 20,
    attempts: int = 5,
) -> tuple[Child, int]:
    """Start a server on `port`, or on a free one, picking again when another process takes it first.

    Raises `SandboxError` with the end of the server's log when it exits or is not ready in time.
    """
    for attempt in range(1, attempts + 1):
        chosen = port_pick() if port is None else port
        child = make(chosen)
        written = child.log.stat().st_size if child.log.exists() else 0
        child.start()
        if child_wait_ready(child, ready=partial(ready, chosen, child), seconds=seconds):
            return child, chosen
        still_running = child.running
        child.stop(grace_seconds=2)
        said = child.log.read_bytes()[written:].decode(errors="replace")
        if still_running:
            raise SandboxError(f"{child.name} was not ready after {seconds} s:\n{tail(child.log)}")
        if port is not None or attempt == attempts or not _ADDRESS_IN_USE.search(said):
            raise SandboxError(f"{child.name} exited ({child.exit_status}) at start:\n{tail(child.log)}")
    raise SandboxError("no free port was found")


def child_wait_ready(child: Child, *, ready: Callable[[], bool], seconds: float) -> bool:
    """Poll until `ready`, the child's exit, or the time is up."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if not child.running:
            return False
        if ready():
            return child.running
        pause.wait(0.02)
    return False


def process_kill(pid: int) -> None:
    """SIGKILL a process that is not our child any more; one that has gone is fine."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def unprivileged_ids() -> tuple[int, int]:
    """The user and group that stand in for root where a server refuses to run as root."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        # initdb looks its user up by id, so any named one that is not root will do.
        entry = next(candidate for candidate in pwd.getpwall() if candidate.pw_uid != 0)
    return entry.pw_uid, entry.pw_gid


def _child_setup(*, unprivileged: bool, death_signal: signal.Signals) -> Callable[[], None]:
    """What runs between fork and exec; everything that it needs is looked up before the fork."""
    parent = os.getpid()
    drop_to = unprivileged_ids() if unprivileged and os.geteuid() == 0 else None
    number = int(death_signal)

    def setup() -> None:
        if drop_to is not None:
            _drop_root(*drop_to)
        if _IS_LINUX:
            # After the change of user, because that clears it.
            _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return setup


def _drop_root(uid: int, gid: int) -> None:
    """Become another user but keep root's right to pass and write directories.

    PostgreSQL refuses uid 0, and an unprivileged user cannot enter a checkout below a directory that only
    root may enter. The ambient capability CAP_DAC_OVERRIDE (capabilities(7)) solves both without touching
    the permissions of anyone's directories. Where a container lacks it we go on without.
    """
    _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if not _IS_LINUX:
        return
    mask = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if _libc.capset(header, data) == 0:
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
