"""`core.clock` for the sandbox and for tests: the standard clock plus an offset that one file holds."""

from datetime import datetime, timedelta
from pathlib import Path

from apps.core.clock import SystemClock
from apps.sandbox.runtime import offset
from apps.sandbox.runtime.rpc import Rpc
from apps.sandbox.runtime.status import sandbox_status


class SandboxClock(SystemClock):
    """`settings.CLOCK` of the local and test settings. One write to the file moves every process."""

    def __init__(self) -> None:
        self._offset: offset.OffsetFile | None = None

    def now(self) -> datetime:
        """The sandbox's time, aware, in UTC."""
        directory = _directory()
        if self._offset is None or self._offset.path.parent != directory:
            self._offset = offset.OffsetFile(directory)
        return SystemClock.now(self) + timedelta(seconds=self._offset.seconds())


def travel(*, seconds: int | None = None, to: datetime | None = None, rpc: Rpc | None = None) -> int:
    """Move `settings.SANDBOX_DIR`'s clock and the chain ahead together; answers the offset in seconds.

    Without `rpc`, the chain is the one of the sandbox that runs in that directory, if one does, and its
    price feeds are pushed again: their answers would be stale at the new time.
    Raises `SandboxError` for a step back.
    """
    directory = _directory()
    if rpc is not None:
        return offset.travel(directory, rpc=rpc, seconds=seconds, to=to)
    status = sandbox_status(directory)
    if "rpc" not in status.urls or status.deployment is None:
        return offset.travel(directory, rpc=None, seconds=seconds, to=to)
    # Only travellers pay for the import of the ABI; the clock itself is imported by every local process.
    from apps.sandbox.market import Market

    chain = Rpc(status.urls["rpc"])
    moved = offset.travel(directory, rpc=chain, seconds=seconds, to=to)
    Market(chain, status.deployment).refresh_feeds()
    return moved


def _directory() -> Path:
    # Settings load this module's class by name, so they must not be needed to import it.
    from django.conf import settings

    return Path(settings.SANDBOX_DIR)
