"""The monitor on nodes that lie, drop logs, fork, forget, or answer nothing: unknown is not absent."""

from collections.abc import Iterator

import pytest

from apps.chain import services as chain_services
from apps.chain.models import RpcEndpoint
from tests.deposits.scanning.conftest import Monitor
from tests.support import bytecode
from tests.support.bytecode import words
from tests.support.rpc_proxy import RpcProxy


@pytest.fixture
def second(monitor: Monitor) -> Iterator[RpcProxy]:
    """Another endpoint of the same node, asked after the first."""
    with RpcProxy(monitor.chain.node.url) as other:
        chain_services.endpoint_add(network_id=monitor.network.pk, name="second", url=other.url, priority=20)
        yield other


# A node that drops logs


def test_dropped_logs_contradict_the_bloom_filter(monitor: Monitor) -> None:
    """The only endpoint shows no logs of a block that has some: its receipts are asked, and have them."""
    monitor.chain.proxy.fault("logs_drop")
    monitor.paid()
    monitor.scan()
    assert len(monitor.deposits()) == 1
    assert "eth_getBlockReceipts" in monitor.chain.proxy.asked


def test_a_node_that_drops_logs_and_hides_receipts_moves_no_cursor(monitor: Monitor) -> None:
    monitor.chain.proxy.fault("logs_drop")
    monitor.chain.proxy.fault("null", method="eth_getBlockReceipts")
    before = monitor.row.next_block
    block = monitor.paid()
    monitor.scan()
    assert before == block
    assert monitor.row.next_block == block
    assert "receipts of block" in monitor.row.last_error

    monitor.chain.proxy.clear()
    monitor.scan()
    assert len(monitor.deposits()) == 1


def test_what_was_dropped_in_part_is_found_on_the_second_reading(monitor: Monitor, second: RpcProxy) -> None:
    """One of two logs is left out: no header can tell, but the other endpoint has both."""
    emitter = monitor.contract(bytecode.EMITTER)
    monitor.chain.proxy.fault("logs_drop", offset=1)
    monitor.send(emitter, words(monitor.address(), monitor.address()))
    monitor.mine()
    monitor.scan()
    assert len(monitor.deposits()) == 1

    monitor.fill(4)
    monitor.scan()
    assert monitor.read_all()
    assert len(monitor.deposits()) == 2
    assert "eth_getLogs" in second.asked


def test_each_block_is_read_again_by_another_than_read_it_first(monitor: Monitor, second: RpcProxy) -> None:
    """Though another endpoint has read newer blocks since: what counts is who read this one."""
    main, other = RpcEndpoint.objects.get(name="main"), RpcEndpoint.objects.get(name="second")
    emitter = monitor.contract(bytecode.EMITTER)
    monitor.scan()
    monitor.chain.proxy.fault("logs_drop", offset=1)
    monitor.send(emitter, words(monitor.address(), monitor.address()))
    block = monitor.mine()
    monitor.scan()
    assert len(monitor.deposits()) == 1
    assert monitor.row.first_readers[-1][1] == str(main.pk)
    # given newer blocks that only the other shows, once; with them the block is final
    monitor.chain.proxy.clear()
    monitor.chain.proxy.fault("error", method="eth_getLogs", times=1)
    monitor.chain.proxy.fault("logs_drop", offset=1)
    monitor.fill(2)
    monitor.watch()
    monitor.step()
    # then it is the other that reads the block the second time, and finds what was left out
    row = monitor.row
    assert (row.read_by, row.read_again_by, row.next_final_block) == (other, other, block + 1)
    assert len(monitor.deposits()) == 2
    # and the newer ones are read again by the first
    monitor.fill(2)
    monitor.watch()
    monitor.step()
    assert monitor.row.read_again_by == main


def test_dropped_logs_of_a_range_are_noticed_too(monitor: Monitor) -> None:
    monitor.chain.proxy.fault("logs_drop")
    monitor.fill(10)
    monitor.paid(blocks_after=20)
    monitor.scan(times=8)
    assert monitor.read_all()
    assert len(monitor.deposits()) == 1


def test_a_block_with_more_logs_than_the_node_shows_is_read_by_its_receipts(monitor: Monitor) -> None:
    emitter = monitor.contract(bytecode.EMITTER)
    monitor.chain.proxy.fault("logs_cap", offset=1)
    monitor.send(emitter, words(monitor.address(), monitor.address()))
    monitor.mine()
    monitor.scan(times=12)
    assert monitor.read_all()
    assert len(monitor.deposits()) == 2


# Unknown is not absent


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("null", "eth_getLogs"),
        ("null", "eth_getBlockByHash"),
        ("null", "eth_getTransactionReceipt"),
        ("error", "eth_getLogs"),
        ("error", "eth_getBlockByHash"),
        ("error", "eth_getTransactionReceipt"),
        ("drop_answer", "eth_getLogs"),
        ("drop_request", "eth_getLogs"),
        ("garbage", "eth_getLogs"),
        ("status", "eth_getLogs"),
        ("null", "trace_block"),
    ],
)
def test_what_the_only_node_does_not_show_waits(monitor: Monitor, kind: str, method: str) -> None:
    monitor.chain.proxy.fault(kind, method=method)
    block = monitor.paid()
    monitor.scan(times=4)
    assert monitor.row.next_block == block
    assert monitor.deposits() == []
    assert monitor.row.last_error

    monitor.chain.proxy.clear()
    monitor.scan()
    assert monitor.read_all()
    assert len(monitor.deposits()) == 1


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("null", "eth_getLogs"),
        ("null", "eth_getBlockByHash"),
        ("null", "eth_getTransactionReceipt"),
        ("error", "eth_getLogs"),
        ("drop_answer", "eth_getLogs"),
        ("garbage", "eth_getLogs"),
        ("status", "eth_getLogs"),
    ],
)
def test_another_endpoint_is_asked(monitor: Monitor, second: RpcProxy, kind: str, method: str) -> None:
    monitor.chain.proxy.fault(kind, method=method)
    monitor.paid()
    monitor.scan()
    assert len(monitor.deposits()) == 1
    assert monitor.row.read_by == RpcEndpoint.objects.get(name="second")


def test_a_node_without_the_block_is_not_counted_as_failing(monitor: Monitor, second: RpcProxy) -> None:
    monitor.chain.proxy.fault("null", method="eth_getBlockByHash")
    for _ in range(4):
        monitor.paid()
        monitor.scan()
    assert monitor.read_all()
    assert RpcEndpoint.objects.get(name="main").failures == 0


def test_a_balancer_that_switches_to_a_fork_in_the_middle_moves_no_cursor(
    monitor: Monitor, second: RpcProxy
) -> None:
    """Logs come from our chain, receipts and the range's end from a node that never saw them."""
    from apps.sandbox.runtime.anvil import Anvil

    block = monitor.paid()
    monitor.watch()
    RpcEndpoint.objects.filter(name="second").update(enabled=False)
    state = monitor.chain.node.log.parent / "fork"
    state.mkdir(exist_ok=True)
    fork = Anvil(state)
    fork.start()
    try:
        monitor.chain.proxy.fault("elsewhere", method="eth_getTransactionReceipt", upstream=fork.url)
        monitor.step()
        assert monitor.row.next_block == block
        monitor.chain.proxy.clear()
        monitor.fill(30)
        monitor.watch()
        monitor.chain.proxy.fault("elsewhere", method="eth_getBlockByNumber", upstream=fork.url)
        monitor.step()
        assert monitor.row.next_block == block
        assert monitor.deposits() == []
    finally:
        fork.kill()
    monitor.chain.proxy.clear()
    monitor.scan(times=6)
    assert monitor.read_all()
    assert len(monitor.deposits()) == 1


def test_a_head_that_is_a_lie_is_not_read(monitor: Monitor) -> None:
    monitor.chain.proxy.fault("head", offset=500, times=6)
    block = monitor.paid()
    monitor.scan()
    assert monitor.row.next_block == block + 1
    assert len(monitor.deposits()) == 1
