"""A real monitor process is killed at each place between two commits; another one goes on; nothing is doubled."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.chain import services as chain_services
from apps.core import work
from apps.deposits import reading
from apps.deposits.kinds import SCAN
from apps.deposits.models import Rescan
from apps.deposits.rescans import rescan_request
from tests.deposits.scanning.conftest import Monitor
from tests.deposits.scanning.test_history import coming, opened

STEPS = """
import sys
import django
django.setup()
from apps.core import work
from apps.deposits.kinds import RESCAN, SCAN
for _ in range(2):
    work.drain({"scan": SCAN, "rescan": RESCAN}[sys.argv[1]], budget_seconds=0)
"""

SCAN_PLACES = [
    "work.deposits.scan.claimed",
    "deposits.scan.placed",
    "deposits.scan.before_rpc",
    "deposits.scan.after_rpc",
    "deposits.scan.before_commit",
    "deposits.scan.after_commit",
    "deposits.final.after_rpc",
    "deposits.final.before_commit",
    "deposits.final.after_commit",
]
RESCAN_PLACES = [
    "work.deposits.rescan.claimed",
    "deposits.rescan.before_rpc",
    "deposits.rescan.after_rpc",
    "deposits.rescan.before_commit",
    "deposits.rescan.after_commit",
]


def _run(step: str, directory: Path, failpoint: str) -> int:
    """Two claims in a process of its own, on the test's database; its exit status."""
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "SANDBOX_DIR": str(directory),
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "FAILPOINTS": f"{failpoint}=kill@1",
    }
    done = subprocess.run(
        [sys.executable, "-c", STEPS, step], env=environment, timeout=60, check=False, capture_output=True
    )
    return done.returncode


def _leases_end() -> None:
    """What the lease's time does, without the wait."""
    with connection.cursor() as cursor:
        for table in ("deposits_scan", "deposits_rescan"):
            cursor.execute(f"UPDATE {table} SET leased_until = NULL, lease_token = NULL")


@pytest.mark.slow
@pytest.mark.parametrize("place", SCAN_PLACES)
def test_a_killed_monitor_goes_on_where_it_stopped(monitor: Monitor, tmp_path: Path, place: str) -> None:
    for _ in range(2):
        monitor.pay(monitor.address())
        monitor.send(monitor.address(), value=5)
        monitor.mine()
        monitor.fill(4)
    monitor.watch()
    monitor.due()
    assert _run("scan", tmp_path, place) == -9
    _leases_end()
    monitor.scan(times=4)
    assert monitor.read_all()
    assert [row.sighting for row in monitor.deposits()] == [1, 1, 1, 1]


@pytest.mark.slow
def test_killed_while_it_goes_back_it_goes_back_again(monitor: Monitor, tmp_path: Path) -> None:
    monitor.fill(3)
    monitor.pay(monitor.address())
    monitor.mine()
    monitor.fill(1)
    monitor.scan()
    monitor.chain.node.reorg(depth=2)
    monitor.fill(3)
    monitor.watch()
    monitor.due()
    assert _run("scan", tmp_path, "deposits.rewind.before_commit") == -9
    assert [row.state for row in monitor.deposits()] == ["seen"]
    _leases_end()
    monitor.scan(times=4)
    assert [row.state for row in monitor.deposits()] == ["orphaned"]
    assert monitor.read_all()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["deposits.history.before_commit", *RESCAN_PLACES])
def test_killed_over_a_new_addresss_history_it_finds_it_once(
    monitor: Monitor, tmp_path: Path, place: str
) -> None:
    (address,) = coming()
    monitor.fill(5)
    monitor.pay(address)
    monitor.mine()
    monitor.fill(5)
    monitor.scan()
    opened()
    monitor.due()
    assert _run("rescan", tmp_path, place) == -9
    _leases_end()
    monitor.rescan(times=8)
    row = Rescan.objects.get()
    assert (row.state, row.found, len(monitor.deposits())) == ("done", 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("place", RESCAN_PLACES)
def test_a_killed_rescan_goes_on_where_it_stopped(monitor: Monitor, tmp_path: Path, place: str) -> None:
    monitor.pay(monitor.address())
    monitor.mine()
    monitor.fill(5)
    monitor.scan()
    monitor.deposits()[0].delete()
    final = monitor.network.final_block
    rescan_request(network_id=monitor.network.pk, from_block=0, to_block=final, reason="test")
    monitor.due()
    assert _run("rescan", tmp_path, place) == -9
    _leases_end()
    monitor.rescan(times=8)
    row = Rescan.objects.get()
    assert (row.state, row.found) == ("done", 1)
    assert len(monitor.deposits()) == 1


def test_a_monitor_whose_lease_was_taken_over_writes_nothing(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor.paid()
    monitor.watch()
    read = chain_services.movements_read

    def read_slowly(**options: Any) -> Any:
        answer = read(**options)
        monkeypatch.setattr(reading, "movements_read", read)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE deposits_scan SET leased_until = clock_timestamp() - interval '1 second'")
        work.drain(SCAN, budget_seconds=0)
        assert len(monitor.deposits()) == 1
        return answer

    monkeypatch.setattr(reading, "movements_read", read_slowly)
    monitor.step()
    assert len(monitor.deposits()) == 1
    assert monitor.deposits()[0].sighting == 1
    monitor.scan()
    assert monitor.read_all()
