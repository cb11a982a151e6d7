"""Named places where a process can be made to die, to show that dying there loses and doubles nothing.

`reach(name)` does nothing unless `settings.FAILPOINTS` arms the name; production settings never do. The form is
`name=kill@N[,name=kill@N]`: SIGKILL to this process when the name is reached for the N-th time. A marker file in
`SANDBOX_DIR/failpoints/` records that it fired, and keeps the restarted process from dying there again.
"""

import os
import signal
from pathlib import Path

from django.conf import settings

_armed: dict[str, int] | None = None


def _load() -> dict[str, int]:
    armed = {}
    for part in filter(None, settings.FAILPOINTS.split(",")):
        name, _, action = part.partition("=")
        verb, _, count = action.partition("@")
        if verb != "kill":
            raise ValueError(f"failpoint {name}: unknown action {verb!r}")
        armed[name.strip()] = int(count or 1)
    return armed


def _marker(name: str) -> Path:
    return Path(settings.SANDBOX_DIR) / "failpoints" / name


def reach(name: str) -> None:
    """Pass the place `name`; the process ends here when the name is armed for this pass."""
    global _armed  # noqa: PLW0603
    if _armed is None:
        _armed = _load()
    if not _armed or name not in _armed:
        return
    _armed[name] -= 1
    if _armed[name] > 0 or _marker(name).exists():
        return
    _marker(name).parent.mkdir(parents=True, exist_ok=True)
    _marker(name).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
