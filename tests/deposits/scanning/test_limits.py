"""The monitor on nodes that refuse or take too long: windows shrink to what they bear, and recover."""

import pytest

from apps.chain import client
from apps.chain.models import RpcEndpoint
from apps.deposits.models import Scan
from tests.deposits.scanning.conftest import Monitor
from tests.support import bytecode
from tests.support.bytecode import words


@pytest.mark.parametrize(("kind", "limit"), [("logs_range", 7), ("logs_cap", 9)])
def test_windows_shrink_to_what_the_node_allows_and_recover(monitor: Monitor, kind: str, limit: int) -> None:
    monitor.chain.proxy.fault(kind, offset=limit)
    emitter = monitor.contract(bytecode.EMITTER)
    addresses = [monitor.address() for _ in range(2)]
    for _ in range(30):
        monitor.send(emitter, words(*addresses))
        monitor.mine()
    monitor.fill(30)
    Scan.objects.update(window=40)
    monitor.watch()
    windows = []
    for _ in range(60):
        monitor.step()
        windows.append(monitor.row.window)
        if monitor.read_all():
            break
    assert monitor.read_all()
    assert min(windows) <= 20
    assert len(monitor.deposits()) == 60
    assert RpcEndpoint.objects.get(name="main").failures == 0

    monitor.chain.proxy.clear()
    monitor.fill(80)
    monitor.watch()
    low = monitor.row.window
    Scan.objects.update(window_calm=100)
    for _ in range(30):
        monitor.step()
    assert monitor.read_all()
    assert monitor.row.window > low


@pytest.mark.parametrize("status", [413, 429, 503])
def test_a_refused_request_shrinks_the_window(monitor: Monitor, status: int) -> None:
    before = monitor.row.window
    monitor.paid(blocks_after=40)
    monitor.watch()
    monitor.chain.proxy.fault("status", method="eth_getLogs", status=status)
    monitor.step()
    assert monitor.row.window < before
    monitor.chain.proxy.clear()
    monitor.scan(times=20)
    assert monitor.read_all()
    assert len(monitor.deposits()) == 1


def test_a_time_out_shrinks_the_window(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.chain import failover

    before = monitor.row.window
    monitor.paid(blocks_after=40)
    monitor.watch()
    monitor.chain.proxy.fault("delay", method="eth_getLogs", seconds=3.0)
    # Only for the answer that is withheld: those of a busy machine take their time.
    with monkeypatch.context() as impatient:
        impatient.setattr(client.Endpoint.__init__, "__kwdefaults__", {"read_timeout_seconds": 1.0})
        failover._connections.__dict__.clear()
        monitor.step()
    failover._connections.__dict__.clear()
    assert monitor.row.window < before
    assert "timed out" in monitor.row.last_error
    monitor.chain.proxy.clear()
    monitor.scan(times=20)
    assert monitor.read_all()
    assert len(monitor.deposits()) == 1


def test_an_answer_that_is_too_long_is_cut_off(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_LIMIT_BYTES", 20_000)
    monitor.paid(blocks_after=40)
    monitor.scan(times=40)
    assert monitor.read_all()
    assert len(monitor.deposits()) == 1
