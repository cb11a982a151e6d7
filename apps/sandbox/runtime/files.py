"""Locks between processes, and files that are whole or absent."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class FileLock:
    """An advisory lock that the kernel drops with its holder, so a crash leaves nothing to clean up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; with `wait=False` answer at once whether it was free."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = self._path.open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            return False
        self._file = handle
        return True

    def release(self) -> None:
        """Drop the lock. The file stays: removing it would let two holders lock two different inodes."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def held(self) -> bool:
        return self._file is not None


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for the lock and hold it for the block."""
    lock = FileLock(path)
    lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.release()


def file_is_locked(path: Path) -> bool:
    """Whether some living process holds the lock at `path`; changes nothing."""
    if not path.exists():
        return False
    probe = FileLock(path)
    free = probe.acquire(wait=False)
    probe.release()
    return not free


def file_write(path: Path, data: str | bytes, *, mode: int = 0o644) -> None:
    """Write through a temporary file and rename, so that a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data.encode() if isinstance(data, str) else data)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def json_write(path: Path, value: Any) -> None:
    file_write(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def json_read(path: Path) -> Any:
    """The file's value, or None when there is no file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def content_hash(paths: Iterable[Path]) -> str:
    """One short hash over the named files' names and bytes: the key of what is derived from them."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        data = path.read_bytes()
        digest.update(f"{path.name}:{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:16]


def tail(path: Path, *, lines: int = 20) -> str:
    """The end of a log, for an error's message."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"
