"""The monitor on a chain that changes: what stood above the fork is taken back and found where it is now."""

from typing import Any

import pytest

from apps.chain import services as chain_services
from apps.chain.models import Network
from tests.deposits.scanning.conftest import Monitor


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_a_reorg_takes_deposits_back_and_finds_them_where_they_are_now(monitor: Monitor, depth: int) -> None:
    """The same transaction in another block: one deposit, seen a second time."""
    stays = monitor.paid(blocks_after=1)
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
    # The node may take it in again by itself.
    receipt = monitor.chain.node.rpc.call("eth_getTransactionReceipt", gone)
    assert states[gone].state == ("seen" if receipt else "orphaned")
    assert not receipt or states[gone].block_hash == receipt["blockHash"]
    assert [row.state for row in states.values() if row.block_number == stays] == ["seen"]
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
    monitor.paid()
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
    kept = monitor.paid(blocks_after=6)
    monitor.paid(blocks_after=4)
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

    paid = monitor.paid(blocks_after=10)
    monitor.watch()
    Block.objects.filter(number__lt=paid + 5).delete()
    monitor.scan(times=4)
    assert monitor.read_all()
    assert monitor.deposits() == []
    monitor.rescan()
    assert Rescan.objects.get().state == "done"
    assert [row.block_number for row in monitor.deposits()] == [paid]
