"""A fork takes back what was final: each transaction is found where it is now, or sent again, and is booked once."""

import pytest

from apps.chain import services
from apps.chain.kinds import RECHECK_WORK
from apps.chain.models import Network, OutboundTransaction, Recheck
from apps.core import clock, work
from apps.core.errors import Conflict, DomainError
from apps.core.invariants import run_all
from apps.events.models import Event
from tests.chain.conftest import Chain

pytestmark = pytest.mark.django_db


def booked(chain: Chain) -> OutboundTransaction:
    """A final transaction whose effect and gas are in the ledger."""
    # A fork must not take the wallet's money back.
    chain.node.mine(blocks=3)
    row = chain.sent()
    chain.node.mine(blocks=3)
    chain.watch()
    OutboundTransaction.objects.filter(pk=row.pk).update(booked_at=clock.now(), gas_booked_at=clock.now())
    row = chain.read(row)
    assert row.state == "confirmed"
    return row


def forked(chain: Chain, *, depth: int = 3, again: tuple[str, int] | None = None) -> Network:
    """The chain becomes another one, the network halts, and an operator resumes it."""
    chain.node.reorg(depth=depth, transactions=[again] if again else [])
    chain.node.mine()
    chain.watch()
    network = Network.objects.get()
    assert network.halted_at is not None
    services.network_resume(network_id=network.pk, actor="ann")
    return network


def raw(chain: Chain, row: OutboundTransaction) -> str:
    assert row.attempt is not None
    return str(chain.node.rpc.call("eth_getRawTransactionByHash", row.attempt.hash))


def rechecked(chain: Chain) -> Recheck:
    Recheck.objects.update(run_after=clock.now())
    work.drain(RECHECK_WORK, budget_seconds=0)
    return Recheck.objects.get()


def outbid(chain: Chain, row: OutboundTransaction) -> None:
    """On the chain that stays, a self-transfer takes its place: what was final is cancelled now."""
    forked(chain)
    chain.node.mine(blocks=3)
    chain.watch()
    rechecked(chain)
    services.transaction_cancel(transaction_id=row.pk)
    for _ in range(3):
        chain.sign()
        chain.send()
        chain.node.mine(blocks=3)
        chain.watch()
    assert chain.read(row).state == "cancelled"


def broken() -> list[str]:
    return [line for v in run_all() if v.name.startswith("chain.") for line in v.violations]


def test_one_that_the_other_chain_has_in_another_block_keeps_its_end_and_gets_its_place(chain: Chain) -> None:
    row = booked(chain)
    # What the blocks of the other chain ask.
    chain.node.base_fee_set(wei=10**9)
    forked(chain, depth=4, again=(raw(chain, row), 3))
    assert Event.objects.filter(topic="network.resumed", payload__actor="ann").exists()
    # when the watcher holds its new block, which is not final yet
    chain.watch()
    assert rechecked(chain).state == "open"
    assert broken() == []
    chain.node.mine(blocks=3)
    chain.watch()
    found = rechecked(chain)
    # then
    now = chain.read(row)
    assert (found.state, found.reopened_at, now.state) == ("closed", None, "confirmed")
    assert now.block_number == (row.block_number or 0) + 2
    assert now.block_hash == chain.node.block(now.block_number)["hash"]
    assert now.booked_at is not None
    # Other base fees above another parent: what the gas cost more or less is to be booked.
    assert now.gas_cost_units != row.gas_cost_units
    assert now.gas_booked_at is None
    assert chain.topics(row)[-1] == "transaction.rechecked"
    assert chain.balance(chain.recipient) == 1_000
    assert broken() == []


def test_one_that_is_nowhere_is_sent_again_with_the_same_bytes_and_happens_once(chain: Chain) -> None:
    row = booked(chain)
    forked(chain)
    assert chain.balance(chain.recipient) == 0
    # Nothing is concluded before the height at which it was is held, and final again.
    assert rechecked(chain).reopened_at is None
    chain.watch()
    found = rechecked(chain)
    assert found.reopened_at is not None
    assert chain.read(row).state == "sent"
    assert broken() == []
    # when it is in a block again, and final
    chain.node.mine(blocks=3)
    chain.watch(2)
    found = rechecked(chain)
    # then
    now = chain.read(row)
    assert (found.state, now.state, now.booked_at is not None) == ("closed", "confirmed", True)
    assert now.attempt == row.attempt
    assert len(chain.attempts(row)) == 1
    assert chain.balance(chain.recipient) == 1_000
    assert broken() == []


def test_a_receipt_that_the_node_has_forgotten_does_no_harm(chain: Chain) -> None:
    """Unknown is not absent: taken for gone it is sent again, and found where it always was."""
    row = booked(chain)
    forked(chain, depth=4, again=(raw(chain, row), 0))
    chain.node.mine(blocks=3)
    chain.watch()
    chain.proxy.fault("null", method="eth_getTransactionReceipt")
    assert rechecked(chain).reopened_at is not None
    chain.proxy.clear()
    chain.watch(2)
    assert (rechecked(chain).state, chain.read(row).state) == ("closed", "confirmed")
    assert chain.balance(chain.recipient) == 1_000
    assert len(chain.attempts(row)) == 1


def test_one_that_ends_otherwise_waits_for_an_operator(chain: Chain) -> None:
    row = booked(chain)
    outbid(chain, row)
    # when
    found = rechecked(chain)
    # then the difference is kept, told, and nobody else's to settle
    assert (found.state, found.before["state"], found.after["state"]) == ("decide", "confirmed", "cancelled")
    assert found.before["moves"] == [["", chain.wallet.address, chain.recipient, "1000"]]
    assert chain.topics(row)[-1] == "transaction.changed"
    assert len(broken()) == 1
    with pytest.raises(DomainError):
        services.recheck_settle(recheck_id=found.pk, actor="ann", note="")
    services.recheck_settle(recheck_id=found.pk, actor="ann", note="paid by hand")
    found.refresh_from_db()
    assert (found.state, found.closed_by, found.note) == ("closed", "ann", "paid by hand")
    assert broken() == []
    with pytest.raises(Conflict):
        services.recheck_settle(recheck_id=found.pk, actor="bob", note="again")


def test_what_was_not_booked_yet_is_booked_as_it_is_now(chain: Chain) -> None:
    row = booked(chain)
    OutboundTransaction.objects.update(booked_at=None)
    forked(chain)
    Recheck.objects.update(before={**Recheck.objects.get().before, "moves": []})
    chain.node.mine(blocks=3)
    chain.watch()
    rechecked(chain)
    chain.node.mine(blocks=3)
    chain.watch(2)
    assert (rechecked(chain).state, chain.read(row).state) == ("closed", "confirmed")


def test_a_second_fork_keeps_what_was_booked_before_the_first(chain: Chain) -> None:
    row = booked(chain)
    forked(chain)
    chain.node.mine(blocks=3)
    chain.watch()
    rechecked(chain)
    chain.node.mine(blocks=3)
    chain.watch(2)
    assert chain.read(row).state == "confirmed"
    # given another fork before anybody compared
    forked(chain, depth=4, again=(raw(chain, chain.read(row)), 1))
    chain.node.mine(blocks=3)
    chain.watch()
    found = rechecked(chain)
    assert (found.state, found.before["block_hash"]) == ("closed", row.block_hash)
    assert resumed_again(chain) == []


def resumed_again(chain: Chain) -> list[OutboundTransaction]:
    return services.network_resume(network_id=chain.network.pk, actor="bob")
