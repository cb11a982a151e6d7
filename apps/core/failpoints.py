"""Named places where a process can be made to die, to show that dying there loses and doubles nothing.

`reach(name)` does nothing unless `settings.FAILPOINTS` arms the name; production settings never do. The form is
`name[:about]=verb@when[,…]`:

* `kill` is SIGKILL to this process, as for a pool process that uses too much memory; `killgroup` to its whole
  process group, as for a machine that is lost.
* `@N` fires when the name is reached for the N-th time, once: a marker file in `SANDBOX_DIR/failpoints/` records
  that it fired and keeps the restarted process from dying there again. `@always` fires each time.
* `:about` narrows it to passes that are about this id, so that one row can be poison among others.
"""

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

_VERBS = frozenset({"kill", "killgroup"})


@dataclass
class _Armed:
    name: str
    about: str
    verb: str
    left: int  # passes until it fires; 0 for always


_armed: dict[str, list[_Armed]] | None = None


def _load() -> dict[str, list[_Armed]]:
    armed: dict[str, list[_Armed]] = {}
    for part in filter(None, settings.FAILPOINTS.split(",")):
        place, _, action = part.partition("=")
        name, _, about = place.strip().partition(":")
        verb, _, when = action.partition("@")
        if verb not in _VERBS:
            raise ValueError(f"failpoint {name}: unknown action {verb!r}")
        left = 0 if when == "always" else int(when or 1)
        armed.setdefault(name, []).append(_Armed(name, about, verb, left))
    return armed


def _marker(name: str) -> Path:
    return Path(settings.SANDBOX_DIR) / "failpoints" / name


def reach(name: str, about: Iterable[Any] = ()) -> None:
    """Pass the place `name`; the process ends here when the name is armed for this pass.

    `about` are the ids of what the pass is about; they are looked at only when something is armed.
    """
    global _armed  # noqa: PLW0603
    if _armed is None:
        _armed = _load()
    if not _armed:
        return
    for point in _armed.get(name, ()):
        if not point.about or point.about in {str(one) for one in about}:
            _pass(point)


def _pass(point: _Armed) -> None:
    marker = _marker(point.name)
    if point.left:
        if marker.exists():
            return
        point.left -= 1
        if point.left:
            return
    marker.parent.mkdir(parents=True, exist_ok=True)
    with marker.open("a") as fired:
        fired.write(f"{os.getpid()}\n")
    if point.verb == "killgroup":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
