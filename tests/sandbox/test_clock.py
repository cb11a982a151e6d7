"""Time travel: one write moves every process's clock, and the chain's with it."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings

from apps.sandbox import clock
from apps.sandbox.clock import SandboxClock
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.offset import OffsetFile
from apps.sandbox.runtime.paths import ROOT_DIR

SLACK = timedelta(seconds=5)


def test_travel_moves_the_clock_and_the_chain(chain_node: Anvil, time_travel: Callable[..., int]) -> None:
    start = datetime.now(UTC)
    running = SandboxClock()
    assert running.now() - start < SLACK

    assert time_travel(seconds=3 * 86_400) == 3 * 86_400
    assert time_travel(seconds=60) == 3 * 86_400 + 60

    ahead = timedelta(days=3, seconds=60)
    assert ahead <= running.now() - start < ahead + SLACK
    assert ahead - SLACK < datetime.fromtimestamp(chain_node.block_at(), UTC) - start < ahead + SLACK
    chain_node.mine()
    assert ahead - SLACK < datetime.fromtimestamp(chain_node.block_at(), UTC) - start < ahead + SLACK


def test_travel_to_an_instant_arrives_at_it(chain_node: Anvil, time_travel: Callable[..., int]) -> None:
    target = datetime.now(UTC).replace(microsecond=0) + timedelta(days=40)
    time_travel(to=target)
    assert target <= SandboxClock().now() < target + SLACK
    assert target.timestamp() <= chain_node.block_at() < (target + SLACK).timestamp()


def test_travel_through_settings_needs_no_chain(time_travel: Callable[..., int]) -> None:
    assert clock.travel(seconds=10) == 10
    assert OffsetFile(Path(settings.SANDBOX_DIR)).seconds() == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": -1}, "only moves ahead"),
        ({"to": datetime(2026, 1, 1, tzinfo=UTC)}, "only moves ahead"),
        ({"to": datetime(2126, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({}, "either"),
        ({"seconds": 1, "to": datetime(2126, 1, 1, tzinfo=UTC)}, "either"),
    ],
)
def test_travel_refuses_what_no_chain_can_follow(
    time_travel: Callable[..., int], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(SandboxError, match=message):
        time_travel(**arguments)
    assert not (Path(os.environ["SANDBOX_DIR"]) / "clock").exists()


def test_the_clock_sees_another_process_travel(time_travel: Callable[..., int]) -> None:
    running = SandboxClock()
    before = running.now()
    script = (
        "import sys; from pathlib import Path; from apps.sandbox.runtime.offset import travel\n"
        "travel(Path(sys.argv[1]), rpc=None, seconds=7200)"
    )
    subprocess.run(
        [sys.executable, "-c", script, os.environ["SANDBOX_DIR"]], check=True, cwd=ROOT_DIR, timeout=30
    )
    assert timedelta(hours=2) <= running.now() - before < timedelta(hours=2) + 2 * SLACK


def test_the_clock_reads_its_file_again_only_when_it_changed(tmp_path: Path) -> None:
    offset = OffsetFile(tmp_path)
    assert offset.seconds() == 0
    path = tmp_path / "clock"
    path.write_text("100")
    info = path.stat()
    assert offset.seconds() == 100

    # The same size and time stamps in the same inode: by design this change goes unseen …
    path.write_text("200")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert offset.seconds() == 100

    # … and a rename, as travel writes, is seen even with the same stamps.
    other = tmp_path / "other"
    other.write_text("300")
    os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))
    other.replace(path)
    assert offset.seconds() == 300
    path.unlink()
    assert offset.seconds() == 0
