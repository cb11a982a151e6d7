"""A new address that had something before it was opened: found by itself, and credited by two operators only."""

from typing import Any

import pytest
from django.conf import settings

from apps.accounts.services import user_create
from apps.chain import derivation
from apps.chain.models import RpcEndpoint
from apps.chain.services import endpoint_add, first_block_holding
from apps.core import work
from apps.core.models import Asset
from apps.deposits import addresses, history
from apps.deposits.kinds import CHECK
from apps.deposits.models import Deposit, DepositAddress, DepositRule, Rescan
from apps.deposits.rescans import rescan_request
from apps.deposits.services import deposit_address_open, hand_approve, hand_request
from apps.treasury.reserves import reserves_check
from tests.deposits.scanning.conftest import Monitor
from tests.support.races import off_and_on
from tests.support.rpc_proxy import RpcProxy

ANN, BEN = "op-ann@example.org", "op-ben@example.org"


def coming(count: int = 1) -> list[str]:
    """The addresses that the next people will be given."""
    first = addresses._index_next() + 1
    return [
        derivation.address_at(xpub=settings.DEPOSIT_XPUB, index=index)
        for index in range(first, first + count)
    ]


def opened(name: str = "late") -> DepositAddress:
    return deposit_address_open(user_id=user_create(email=f"{name}@example.org").pk)


def looked(monitor: Monitor) -> None:
    """The deposits' check, of everything that is seen."""
    Deposit.objects.update(run_after=monitor.network.created_at)
    work.drain(CHECK, budget_seconds=0)


def states() -> list[tuple[str, int, str, str]]:
    rows = Deposit.objects.order_by("block_number", "kind")
    return [(row.kind, int(row.amount_units), row.state, row.reason) for row in rows]


@pytest.fixture
def accepting(monitor: Monitor) -> Monitor:
    for asset in Asset.objects.all():
        DepositRule.objects.create(asset=asset, minimum_units=1)
    return monitor


def test_what_came_before_is_found_by_itself_and_waits_for_two_operators(accepting: Monitor) -> None:
    monitor = accepting
    # given an address that had coins and tokens, and nobody was told of it
    (address,) = coming()
    monitor.fill(40)
    monitor.send(address, value=7)
    first = monitor.mine()
    monitor.fill(5)
    monitor.pay(address, 5_000_000)
    monitor.mine()
    monitor.fill(4)
    monitor.scan(times=6)
    assert monitor.read_all()
    assert states() == []
    # when it becomes somebody's, who is paid then
    assert opened().address == address
    monitor.pay(address, 1_000_000)
    monitor.mine()
    monitor.scan()
    monitor.rescan(times=6)
    looked(monitor)
    # then all of it is there, and what came before is not theirs by itself
    before = ("unsupported", "before_opened")
    assert states() == [
        ("native", 7, *before),
        ("token", 5_000_000, *before),
        ("token", 1_000_000, "confirming", ""),
    ]
    row = Rescan.objects.get()
    assert (row.state, row.found) == ("done", 2)
    # Read from where it begins: the rest of the chain is no concern of it.
    assert row.from_block == first
    # and two operators who know whose it is give it to them
    deposit = Deposit.objects.get(amount_units=5_000_000)
    hand_request(deposit_id=deposit.pk, actor=ANN, note="moved here with us")
    hand_approve(deposit_id=deposit.pk, actor=BEN)
    deposit.refresh_from_db()
    assert (deposit.state, deposit.credited_units) == ("credited", 5_000_000)


@off_and_on
def test_books_equal_the_chain_when_such_an_address_is_used(
    accepting: Monitor, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    """Unnoticed, what came before is a surplus at an address with deposits: that pauses the asset for everybody."""
    monitor = accepting
    if not locked:
        monkeypatch.setattr(addresses, "history_ask", lambda _: None)
    (address,) = coming()
    monitor.pay(address, 5_000_000)
    monitor.mine()
    monitor.fill(5)
    monitor.scan()
    opened()
    monitor.pay(address, 1_000_000)
    monitor.mine()
    monitor.scan()
    monitor.rescan(times=4)
    looked(monitor)

    (row,) = [one for one in reserves_check() if one.asset_id == monitor.usdc.asset_id]

    assert (row.chain_units, row.difference_units) == (6_000_000, 0 if locked else 5_000_000)
    assert row.verdict == ("matched" if locked else "checking")


def test_who_reads_the_range_by_hand_credits_it_no_sooner(accepting: Monitor) -> None:
    monitor = accepting
    (address,) = coming()
    monitor.pay(address, 5)
    monitor.mine()
    monitor.fill(5)
    monitor.scan()
    opened()
    # when an operator was faster
    rescan_request(network_id=monitor.network.pk, from_block=0, reason="looking")
    Rescan.objects.filter(address__isnull=False).update(lease_token=None, leased_until="2100-01-01T00:00Z")
    monitor.rescan(times=3)
    looked(monitor)
    assert states() == [("token", 5, "unsupported", "before_opened")]
    # then the look finds nothing more, and remembers what it was about
    Rescan.objects.update(leased_until=None)
    monitor.rescan(times=3)
    assert Rescan.objects.get(address__isnull=False).state == "done"
    Deposit.objects.update(state="seen", reason="")
    looked(monitor)
    assert states() == [("token", 5, "unsupported", "before_opened")]


def test_an_address_that_had_nothing_leaves_nothing_and_reads_nothing(accepting: Monitor) -> None:
    monitor = accepting
    monitor.fill(20)
    monitor.scan()
    address = opened().address
    # given somebody quick
    monitor.send(address, value=7)
    monitor.pay(address, 5)
    monitor.mine()
    monitor.scan()
    asked = len(monitor.chain.proxy.asked)
    monitor.rescan()
    assert not Rescan.objects.exists()
    assert sorted(monitor.chain.proxy.asked[asked:]) == [
        "eth_call",
        "eth_getBalance",
        "eth_getTransactionCount",
    ]
    looked(monitor)
    assert {(state, reason) for *_, state, reason in states()} == {("confirming", "")}


def test_what_came_while_the_monitor_was_behind_is_nobodys_either(accepting: Monitor) -> None:
    monitor = accepting
    (address,) = coming()
    monitor.pay(address, 5)
    monitor.mine()
    monitor.fill(8)
    monitor.watch()
    opened()
    # Not looked at before the monitor has read what was there when it was opened.
    monitor.rescan()
    assert Rescan.objects.get().state == "asked"
    monitor.scan()
    monitor.rescan(times=4)
    looked(monitor)
    assert states() == [("token", 5, "unsupported", "before_opened")]
    assert Rescan.objects.get().state == "done"


def test_of_an_address_with_another_sender_an_operator_decides(accepting: Monitor) -> None:
    """What came to it may have been spent: the chain cannot be asked what is left of which deposit."""
    monitor = accepting
    (address,) = coming()
    node = monitor.chain.node.rpc
    monitor.send(address, value=10**18)
    monitor.mine()
    node.call("anvil_impersonateAccount", address)
    monitor.send(monitor.accounts[3], value=7, sender=address)
    monitor.mine()
    node.call("anvil_stopImpersonatingAccount", address)
    monitor.fill(5)
    monitor.scan()
    opened()
    monitor.rescan()
    row = Rescan.objects.get()
    assert row.buried_at is not None
    assert f"somebody else has sent from {address}" in row.last_error
    assert states() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "pruned"},
        {"kind": "error", "method": "eth_call"},
        {"kind": "error", "method": "eth_getTransactionCount"},
        {"kind": "status", "status": 503},
    ],
)
def test_while_no_node_says_it_is_not_taken_for_unused(accepting: Monitor, fault: dict[str, Any]) -> None:
    monitor = accepting
    (address,) = coming()
    monitor.pay(address, 5)
    monitor.mine()
    monitor.fill(5)
    monitor.scan()
    opened()
    monitor.chain.proxy.fault(**fault)
    monitor.rescan()
    assert Rescan.objects.get().state == "asked"
    monitor.chain.proxy.clear()
    monitor.rescan(times=4)
    assert [units for _, units, *_ in states()] == [5]


def test_where_nodes_keep_no_old_states_the_whole_chain_is_read(
    accepting: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = accepting
    (address,) = coming()
    monitor.fill(10)
    monitor.pay(address, 5)
    monitor.mine()
    monitor.fill(5)
    monitor.scan()
    opened()
    surplus = history._surplus

    def forgets(*args: Any) -> list[str] | None:
        found = surplus(*args)
        monitor.chain.proxy.fault("error", method="eth_call")
        return found

    monkeypatch.setattr(history, "_surplus", forgets)
    monitor.rescan(times=1)
    row = Rescan.objects.get()
    assert (row.state, row.from_block) == ("open", 0)
    monitor.chain.proxy.clear()
    monitor.rescan(times=4)
    assert [units for _, units, *_ in states()] == [5]


class Forgetful(RpcProxy):
    """Keeps the states from block `since` on."""

    since = 0

    def _forget(self, call: dict[str, Any], answer: dict[str, Any]) -> bool:
        if call.get("method") != "eth_getBalance" or int(call["params"][-1], 16) >= self.since:
            return super()._forget(call, answer)
        answer.pop("result", None)
        answer["error"] = {"code": -32000, "message": "missing trie node"}
        return True


def test_where_it_began_is_believed_only_beside_a_state_in_which_it_had_not(monitor: Monitor) -> None:
    address = "0x" + "9e" * 20
    monitor.fill(10)
    monitor.send(address, value=7)
    block = monitor.mine()
    last = monitor.fill(10)
    network = monitor.network.pk
    RpcEndpoint.objects.update(enabled=False)
    with Forgetful(monitor.chain.node.url) as node:
        endpoint_add(network_id=network, name="forgetful", url=node.url)

        def first(since: int, *, address: str = address) -> int | None:
            node.since = since
            return first_block_holding(network_id=network, token="", address=address, last=last)

        said = [first(since) for since in (0, block - 1, block, block + 1, last, last + 1)]
        assert said == [block, block, 0, 0, 0, 0]
        assert first(block, address="0x" + "9f" * 20) is None


def test_several_with_a_history_are_read_in_one_go(accepting: Monitor) -> None:
    monitor = accepting
    found = coming(3)
    for address in found:
        monitor.pay(address, 5)
    block = monitor.mine()
    monitor.fill(5)
    monitor.scan()
    for number in range(3):
        opened(f"late-{number}")
    monitor.rescan(times=8)
    looked(monitor)
    assert states() == [("token", 5, "unsupported", "before_opened")] * 3
    # The first range had them all: nothing is read again for the others.
    assert sorted(Rescan.objects.values_list("state", "found", "from_block")) == [
        ("done", 0, 0),
        ("done", 0, 0),
        ("done", 3, block),
    ]


def test_a_network_that_nobody_watches_is_not_asked(monitor: Monitor) -> None:
    type(monitor.network).objects.update(final_block=None, watched_block=None)
    opened()
    assert not Rescan.objects.exists()
