"""Node.js, and npm packages: those that the sandbox's chain is made of, unless others are asked for."""

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import content_hash, file_lock, file_write
from apps.sandbox.runtime.paths import CACHE_DIR, CONTRACTS_DIR, REQUIREMENTS_DIR

_STAMP = ".tranche-lock-hash"


@dataclass(frozen=True, kw_only=True)
class Node:
    """Two executables of one installation."""

    node: Path
    npm: Path


def node_find() -> Node | None:
    """The machine's Node.js, else the wheel's beside the running Python, else None."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return Node(node=Path(node), npm=Path(npm))
    beside = Path(sys.executable).parent
    if (beside / "node").exists() and (beside / "npm").exists():
        return Node(node=beside / "node", npm=beside / "npm")
    return None


def node_ensure() -> Node:
    """Node.js, installed as a wheel from `requirements/node.txt` (hashes checked) where there is none."""
    found = node_find()
    if found is not None:
        return found
    with file_lock(CACHE_DIR / "node.lock"):
        if (found := node_find()) is None:
            if importlib.util.find_spec("pip") is None:
                _run([sys.executable, "-m", "ensurepip"])
            requirements = str(REQUIREMENTS_DIR / "node.txt")
            _run([sys.executable, "-m", "pip", "install", "-q", "--require-hashes", "-r", requirements])
            found = node_find()
    if found is None:
        raise SandboxError("installing requirements/node.txt gave no node and npm beside the running Python")
    return found


def node_modules_ensure(directory: Path = CONTRACTS_DIR) -> Path:
    """The folder of npm packages installed in `directory`; runs `npm ci` once per lock file, also when starts race."""
    modules = directory / "node_modules"
    stamp = modules / _STAMP
    wanted = content_hash([directory / "package.json", directory / "package-lock.json"])
    if _read(stamp) == wanted:
        return modules
    with file_lock(CACHE_DIR / "npm.lock"):
        if _read(stamp) != wanted:
            _run([str(node_ensure().npm), "ci", "--no-progress", "--loglevel=error"], directory=directory)
            file_write(stamp, wanted)
    return modules


def _read(stamp: Path) -> str | None:
    try:
        return stamp.read_text()
    except FileNotFoundError:
        return None


def _run(command: list[str], *, directory: Path | None = None) -> None:
    result = subprocess.run(
        command, cwd=directory, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if result.returncode != 0:
        raise SandboxError(f"{' '.join(command)} failed ({result.returncode}):\n{result.stdout[-4000:]}")
