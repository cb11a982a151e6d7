"""What a stack leaves behind when it is told to end: nothing."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent


def _descendants(pid: int) -> set[int]:
    """Every process below `pid`, from /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    fresh = {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def _runs(pid: int) -> bool:
    """Zombies aside: what lost its parent on the way is reaped by init, in its own time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


@pytest.mark.e2e
@pytest.mark.timeout(480)
@pytest.mark.parametrize(
    ("program", "only", "number"),
    [("chaos", "undisturbed", signal.SIGTERM), ("bench", "engine", signal.SIGINT)],
)
def test_a_signal_ends_every_child_removes_the_directory_and_is_no_success(
    tmp_path: Path, program: str, only: str, number: signal.Signals
) -> None:
    out = tmp_path / "rows.json"
    child = subprocess.Popen(
        [sys.executable, "-m", f"tests.{program}", "--only", only, "--out", str(out)],
        stdout=subprocess.DEVNULL,
    )
    directory = ROOT / "var" / f"{program}-{child.pid}"

    def roles_run() -> bool:
        assert child.poll() is None
        state = directory / "state.json"
        return state.exists() and "signer" in json.loads(state.read_text())["pids"]

    try:
        wait_until(roles_run, seconds=300, what="the roles run")
        below = _descendants(child.pid)
        assert len(below) >= 6

        child.send_signal(number)

        assert child.wait(timeout=120) == 128 + number
    finally:
        child.kill()
        child.wait()
    assert not directory.exists()
    assert not [pid for pid in below if _runs(pid)]
    assert not out.exists()
