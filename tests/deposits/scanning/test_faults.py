"""The monitor on nodes that lie, lag, fork, forget, refuse, or time out; and reorgs."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from apps.chain import client
from apps.chain import services as chain_services
from apps.chain.models import Network, RpcEndpoint
from apps.core import work
from apps.deposits.kinds import SCAN
from apps.deposits.models import Scan
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


def _paid(monitor: Monitor, blocks_after: int = 0) -> int:
    """A block with a deposit of USDC."""
    monitor.pay(monitor.address())
    block = monitor.mine()
    if blocks_after:
        monitor.fill(blocks_after)
    return block


# A node that drops logs


def test_dropped_logs_contradict_the_bloom_filter(monitor: Monitor) -> None:
    """The only endpoint shows no logs of a block that has some: its receipts are asked, and have them."""
    monitor.chain.proxy.fault("logs_drop")
    _paid(monitor)
    monitor.scan()
    assert len(monitor.deposits()) == 1
    assert "eth_getBlockReceipts" in monitor.chain.proxy.asked


def test_a_node_that_drops_logs_and_hides_receipts_moves_no_cursor(monitor: Monitor) -> None:
    monitor.chain.proxy.fault("logs_drop")
    monitor.chain.proxy.fault("null", method="eth_getBlockReceipts")
    before = monitor.row.next_block
    block = _paid(monitor)
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
    _paid(monitor, blocks_after=20)
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
    block = _paid(monitor)
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
    _paid(monitor)
    monitor.scan()
    assert len(monitor.deposits()) == 1
    assert monitor.row.read_by == RpcEndpoint.objects.get(name="second")


def test_a_node_without_the_block_is_not_counted_as_failing(monitor: Monitor, second: RpcProxy) -> None:
    monitor.chain.proxy.fault("null", method="eth_getBlockByHash")
    for _ in range(4):
        _paid(monitor)
        monitor.scan()
    assert monitor.read_all()
    assert RpcEndpoint.objects.get(name="main").failures == 0


def test_a_balancer_that_switches_to_a_fork_in_the_middle_moves_no_cursor(
    monitor: Monitor, second: RpcProxy
) -> None:
    """Logs come from our chain, receipts and the range's end from a node that never saw them."""
    from apps.sandbox.runtime.anvil import Anvil

    block = _paid(monitor)
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
    block = _paid(monitor)
    monitor.scan()
    assert monitor.row.next_block == block + 1
    assert len(monitor.deposits()) == 1


# Limits


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
    _paid(monitor, blocks_after=40)
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

    monkeypatch.setattr(client.Endpoint.__init__, "__kwdefaults__", {"read_timeout_seconds": 0.3})
    failover._connections.__dict__.clear()
    before = monitor.row.window
    _paid(monitor, blocks_after=40)
    monitor.watch()
    monitor.chain.proxy.fault("delay", method="eth_getLogs", seconds=1.0)
    monitor.step()
    assert monitor.row.window < before
    assert "timed out" in monitor.row.last_error
    monitor.chain.proxy.clear()
    monitor.scan(times=20)
    failover._connections.__dict__.clear()
    assert monitor.read_all()
    assert len(monitor.deposits()) == 1


def test_an_answer_that_is_too_long_is_cut_off(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_LIMIT_BYTES", 20_000)
    _paid(monitor, blocks_after=40)
    monitor.scan(times=40)
    assert monitor.read_all()
    assert len(monitor.deposits()) == 1


# Reorgs


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_a_reorg_takes_deposits_back_and_finds_them_where_they_are_now(monitor: Monitor, depth: int) -> None:
    """The same transaction in another block: one deposit, seen a second time."""
    stays = _paid(monitor, blocks_after=1)
    gone = monitor.pay(monitor.address())
    monitor.mine()
    monitor.fill(depth - 1)
    monitor.scan()
    assert {row.state for row in monitor.deposits()} == {"seen"}

    raw = monitor.chain.node.rpc.call("eth_getTransactionByHash", gone)
    assert raw is not None
    monitor.chain.node.reorg(depth=depth)
    monitor.fill(depth)
    monitor.scan(times=5)
    states = {row.transaction_hash: row for row in monitor.deposits()}
    assert states[gone].state in ("orphaned", "seen")
    assert [row.state for row in states.values() if row.block_number == stays] == ["seen"]
    if states[gone].state == "orphaned":
        assert monitor.chain.node.rpc.call("eth_getTransactionReceipt", gone) is None
    assert monitor.read_all()


def test_reincluded_elsewhere_it_is_the_same_deposit(monitor: Monitor) -> None:
    """The signed transaction comes back two blocks later, behind another one."""
    from eth_account import Account

    node = monitor.chain.node
    key = Account.create()
    node.balance_set(key.address, wei=10**18)
    address = monitor.address()
    raw = key.sign_transaction(
        {
            "to": bytes.fromhex(address[2:]),
            "value": 77,
            "gas": 21_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
            "nonce": 0,
            "chainId": int(node.rpc.call("eth_chainId"), 16),
        }
    ).raw_transaction.to_0x_hex()
    monitor.fill(3)
    node.rpc.call("eth_sendRawTransaction", raw)
    first = monitor.mine()
    monitor.fill(2)
    monitor.scan()
    (seen,) = monitor.deposits()
    assert (seen.block_number, seen.sighting) == (first, 1)

    node.reorg(depth=3, transactions=[(raw, 2)])
    monitor.fill(2)
    monitor.scan(times=5)
    (again,) = monitor.deposits()
    assert again.pk == seen.pk
    assert (again.state, again.block_number, again.sighting) == ("seen", first + 2, 2)
    assert again.block_hash == node.block(first + 2)["hash"]
    assert monitor.read_all()


def test_a_reorg_while_the_blocks_are_read_lets_them_go(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`chain.watch` notices between the scanner's answers and its commit."""
    from apps.deposits import reading

    monitor.fill(2)
    monitor.scan()
    _paid(monitor)
    monitor.watch()
    before = monitor.row.next_block
    read = chain_services.movements_read

    def read_then_reorg(**options: Any) -> Any:
        answer = read(**options)
        monkeypatch.setattr(reading, "movements_read", read)
        monitor.chain.node.reorg(depth=2)
        monitor.fill(1)
        monitor.watch()
        return answer

    monkeypatch.setattr(reading, "movements_read", read_then_reorg)
    monitor.step()
    assert monitor.row.next_block == before
    assert monitor.deposits() == []
    monitor.scan(times=5)
    assert monitor.read_all()


def test_a_halted_network_rests_and_is_checked_again_after_the_resume(monitor: Monitor) -> None:
    Network.objects.update(reorg_limit=3)
    kept = _paid(monitor, blocks_after=6)
    _paid(monitor, blocks_after=4)
    monitor.scan(times=5)
    assert {row.state for row in monitor.deposits()} == {"seen"}
    cursor = monitor.row.next_block

    monitor.chain.node.reorg(depth=6)
    monitor.fill(2)
    monitor.scan(times=3)
    assert monitor.network.halted_at is not None
    assert monitor.row.next_block == cursor
    assert {row.state for row in monitor.deposits()} == {"seen"}

    chain_services.network_resume(network_id=monitor.network.pk, actor="test")
    monitor.step()
    assert {row.state for row in monitor.deposits()} == {"seen"}, "nothing is known yet"
    monitor.scan(times=6)
    assert {row.block_number: row.state for row in monitor.deposits()} == {kept: "seen", kept + 7: "orphaned"}
    assert monitor.read_all()


def test_headers_that_went_before_they_were_read_are_read_as_a_range(monitor: Monitor) -> None:
    from apps.chain.models import Block
    from apps.deposits.models import Rescan

    paid = _paid(monitor, blocks_after=10)
    monitor.watch()
    Block.objects.filter(number__lt=paid + 5).delete()
    monitor.scan(times=4)
    assert monitor.read_all()
    assert monitor.deposits() == []
    monitor.rescan()
    assert Rescan.objects.get().state == "done"
    assert [row.block_number for row in monitor.deposits()] == [paid]


# Two at once


def test_a_monitor_whose_lease_was_taken_over_writes_nothing(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.deposits import reading

    _paid(monitor)
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
