"""The whole way with the real lifecycle: seen, credited, collected; and a reorg in the middle of it."""

import pytest

from apps.chain import services
from apps.chain.kinds import RECHECK_WORK
from apps.chain.models import OutboundTransaction, Recheck
from apps.core import clock, work
from apps.core.models import Asset
from apps.deposits.domain import DepositState
from apps.deposits.models import Deposit, DepositAddress, DepositRule, Sweep
from apps.deposits.sweep_planning import sweeps_demand
from apps.ledger.models import Journal
from apps.treasury.domain import DEPOSITS_REF
from apps.treasury.invariants import ledger_equals_chain
from apps.treasury.services import gas_book
from tests.deposits.collecting import ETHER, USDC, Place, place
from tests.deposits.shore import Shore

__all__ = ["place"]


@pytest.fixture
def shore(place: Place) -> Shore:
    """The lifecycle's hands on the same chain and database."""
    for code in ("USDC", "ETH"):
        DepositRule.objects.create(asset_id=place.asset_id(code), minimum_units=1)
    return Shore(
        node=place.node,
        proxy=None,  # type: ignore[arg-type]
        network=place.network,
        native=Asset.objects.get(code="ETH"),
        deployment=place.maker.deployment,
        contracts=place.maker.chain,
        scanned=place.node.block_number(),
    )


@pytest.mark.parametrize("included_again", [False, True])
def test_reorg_takes_a_credited_deposit_back_while_its_sweep_is_mined(
    place: Place, shore: Shore, included_again: bool
) -> None:
    # given gas of the person's own at the address, credited long ago, and tokens credited just now
    person = shore.person()
    at = DepositAddress.objects.get(user=person)
    place.send(at, "ETH", ETHER // 50)
    shore.land()
    place.node.mine(blocks=5)
    block = place.send(at, "USDC", 1_000 * USDC)
    raw = place.node.rpc.call("eth_getRawTransactionByHash", place.node.block(block)["transactions"][0])
    shore.land()
    place.watch()
    row = Deposit.objects.get(asset_id=place.asset_id("USDC"))
    assert (row.state, row.block_number) == (DepositState.CREDITED, block)
    place.holds()
    # and a transfer that is in a block, not final
    sweeps_demand(asset_id=place.asset_id("USDC"), units=1)
    place.sweep()
    place.advance()
    assert OutboundTransaction.objects.get(purpose="sweep").state == "mined"
    place.holds()
    # when the chain takes all of it back
    depth = place.node.block_number() - block + 1
    # One block later than before: the same block in the same second would have the same hash.
    place.node.reorg(depth=depth, transactions=[(raw, 1)] if included_again else [])
    place.node.mine()
    place.watch()
    shore.scanned = block - 1
    shore.scan()
    # then the books follow, and again at every step from here
    place.holds()
    for _ in range(6):
        place.advance()
        place.holds()
    row.refresh_from_db()
    if not included_again:
        assert row.state == DepositState.REVERSED
        place.finish()
        assert Sweep.objects.get().state == "failed"
        assert place.custody(place.hot.address, "USDC") == place.on_chain(place.hot.address, "USDC") == 0
        return
    # the transfer is final again before the deposit is credited anew, and waits for that
    assert row.state == DepositState.SEEN
    assert Sweep.objects.get().state == "sweeping"
    shore.land()
    place.finish()
    place.holds()
    row.refresh_from_db()
    assert (row.state, row.sighting, Sweep.objects.get().state) == (DepositState.CREDITED, 2, "done")
    assert (
        place.custody(place.hot.address, "USDC") == place.on_chain(place.hot.address, "USDC") == 1_000 * USDC
    )
    assert place.custody(DEPOSITS_REF, "USDC") == 0
    assert shore.balance(person, Asset.objects.get(code="USDC")) == 1_000 * USDC


@pytest.mark.parametrize("gone", [False, True])
def test_fork_that_takes_a_final_sweep_back_ends_with_books_equal_to_the_chain(
    place: Place, shore: Shore, gone: bool
) -> None:
    """Halted, resumed, looked for: included at another price or sent again, it is booked once and at its cost."""
    # given a sweep that is final and booked, with gas that was brought for it
    person = shore.person()
    at = DepositAddress.objects.get(user=person)
    place.send(at, "USDC", 1_000 * USDC)
    shore.land()
    place.watch()
    # Blocks that the fork leaves alone keep the deposit.
    place.node.mine(blocks=3)
    # Far from the least that a block may ask: in the block after the one it was in, the sweep costs something else.
    place.node.base_fee_set(wei=10**9)
    sweeps_demand(asset_id=place.asset_id("USDC"), units=1)
    place.finish()
    place.watch()
    place.holds()
    sent = OutboundTransaction.objects.select_related("attempt").get(purpose="sweep")
    assert sent.attempt is not None
    before = sent.gas_cost_units, place.holding(at, "ETH")
    # when a fork takes its block
    raw = place.node.rpc.call("eth_getRawTransactionByHash", sent.attempt.hash)
    depth = place.node.block_number() - (sent.block_number or 0) + 1
    place.node.reorg(depth=depth, transactions=[] if gone else [(raw, 1)])
    place.node.mine(blocks=2)
    place.node.base_fee_set(wei=10**6)
    place.watch()
    assert place.network.halted_at is not None
    services.network_resume(network_id=place.network.pk, actor="ann")
    # then nothing is said to differ while it is looked for
    assert all("looked for" in line for line in ledger_equals_chain().violations)
    for _ in range(6):
        place.advance()
        Recheck.objects.update(run_after=clock.now())
        work.drain(RECHECK_WORK, budget_seconds=0)
    # and it is where the chain has it, at what it cost there
    found = Recheck.objects.get(transaction=sent)
    now = OutboundTransaction.objects.get(pk=sent.pk)
    assert (found.state, found.reopened_at is not None, now.state) == ("closed", gone, "confirmed")
    assert now.gas_booked_at is not None
    assert now.gas_cost_units != before[0]
    assert place.holding(at, "ETH") == before[1] + before[0] - now.gas_cost_units
    assert Journal.objects.filter(kind="gas_correction").count() == 1
    assert Journal.objects.filter(reference=f"sweep:{Sweep.objects.get().pk}").count() == 1
    place.holds()
    assert gas_book().booked == 0
