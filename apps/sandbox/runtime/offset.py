"""The sandbox's clock: a file with the seconds by which it is ahead of the machine's."""

import math
import time
from datetime import datetime
from pathlib import Path

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import file_lock, file_write
from apps.sandbox.runtime.rpc import Rpc

CLOCK_FILE = "clock"


class OffsetFile:
    """Reads the offset, and reads it again only when the file has changed: one `stat` per look."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / CLOCK_FILE
        self._seen: tuple[int, int, int] | None = None
        self._seconds = 0

    def seconds(self) -> int:
        """The offset; 0 when nobody has travelled."""
        try:
            info = self.path.stat()
        except FileNotFoundError:
            self._seen, self._seconds = None, 0
            return 0
        seen = (info.st_mtime_ns, info.st_size, info.st_ino)
        if seen != self._seen:
            self._seconds = int(self.path.read_text())
            self._seen = seen
        return self._seconds


def offset_now(directory: Path) -> int:
    """The sandbox's Unix time in whole seconds."""
    return int(time.time()) + OffsetFile(directory).seconds()


def travel(
    directory: Path, *, rpc: Rpc | None, seconds: int | None = None, to: datetime | None = None
) -> int:
    """Move the clock file, and the chain behind `rpc`, ahead; answers the new offset in seconds.

    The chain goes first: a process that already sees the new time must find a chain that has reached it.
    Raises `SandboxError` for a step back, which no chain can follow.
    """
    with file_lock(directory / "clock.lock"):
        offset = OffsetFile(directory).seconds()
        if (seconds is None) == (to is None):
            raise SandboxError("say either how many seconds or to which instant")
        if to is not None:
            if to.tzinfo is None:
                raise SandboxError("the instant needs a time zone")
            seconds = math.ceil(to.timestamp() - time.time()) - offset
        if seconds is None or seconds < 0:
            raise SandboxError("time only moves ahead")
        offset += seconds
        if rpc is not None:
            head = rpc.call("eth_getBlockByNumber", "latest", False)
            # A chain that mined faster than the clock is ahead already by some seconds.
            at = max(int(time.time()) + offset, int(head["timestamp"], 16) + 1)
            rpc.call("anvil_setTime", at)
            rpc.call("evm_mine")
        file_write(directory / CLOCK_FILE, str(offset))
    return offset
