"""What runs in a sandbox's directory, asked by any process."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.runtime.files import file_is_locked, json_read
from apps.sandbox.runtime.paths import DEFAULT_SANDBOX_DIR

STATE_FILE = "state.json"
ENVIRONMENT_FILE = "sandbox.env"
LOCK_FILE = "lock"


@dataclass(frozen=True, kw_only=True)
class SandboxStatus:
    """What the directory's files say, checked against the living processes."""

    directory: Path
    running: bool
    owner_pid: int | None = None
    urls: dict[str, str] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    alive: dict[str, bool] = field(default_factory=dict)
    deployment: Deployment | None = None


def sandbox_status(directory: Path | None = None) -> SandboxStatus:
    """What runs in a directory, asked by any process. A crashed sandbox's files count as not running."""
    where = (directory or DEFAULT_SANDBOX_DIR).resolve()
    state: dict[str, Any] | None = json_read(where / STATE_FILE)
    if state is None or not file_is_locked(where / LOCK_FILE):
        return SandboxStatus(directory=where, running=False)
    pids = state["pids"]
    return SandboxStatus(
        directory=where,
        running=True,
        owner_pid=state["owner_pid"],
        urls=state["urls"],
        pids={name: entry["pid"] for name, entry in pids.items()},
        alive={name: process_started_at(entry["pid"]) == entry["start"] for name, entry in pids.items()},
        deployment=None if state["deployment"] is None else Deployment.from_dict(state["deployment"]),
    )


def process_started_at(pid: int) -> str | None:
    """The kernel's start tick of a living process, which tells a reused pid from the one that was meant."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]
