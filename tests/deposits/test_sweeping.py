"""Collecting: it pays or somebody waits, gas comes first, and the books equal the chain after every step."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection, transaction

from apps.chain.kinds import SEND_WORK, SIGN_WORK
from apps.chain.models import OutboundTransaction, SignerRule, Wallet
from apps.chain.services import transaction_cancel
from apps.core import work
from apps.deposits.kinds import SWEEP_WORK
from apps.deposits.models import Sweep
from apps.deposits.sweep_planning import OPEN_MAX, sweeps_demand, sweeps_plan
from apps.ledger.models import Account, Journal
from apps.treasury.domain import DEPOSITS_REF
from apps.treasury.pools import units_demand
from tests.deposits.collecting import ETHER, USDC, Place, place

__all__ = ["place"]


def states() -> list[str]:
    return list(Sweep.objects.order_by("pk").values_list("state", flat=True))


def transfer_asked_for(place: Place) -> None:
    """Until the gas is there and the transfer is written down, not signed."""
    for _ in range(12):
        for _ in range(2):
            place.sweep()
            if states() == ["sweeping"]:
                return
        place.advance()
    raise AssertionError(states())


def test_tokens_are_collected_and_books_equal_the_chain_at_every_step(place: Place) -> None:
    # given a deposit that is worth collecting, at an address without gas
    at = place.address()
    place.deposit(at, "USDC", 5_000 * USDC)
    place.watch()
    place.holds()
    # when
    assert sweeps_plan() == 1
    seen = []
    for _ in range(20):
        place.advance()
        place.holds()
        seen.append(states()[0])
        if seen[-1] == "done":
            break
    # then it went through its states, and everything lies in the collecting wallet
    assert list(dict.fromkeys(seen)) == ["funding", "planned", "sweeping", "done"]
    assert (
        place.on_chain(place.hot.address, "USDC") == place.custody(place.hot.address, "USDC") == 5_000 * USDC
    )
    assert place.custody(DEPOSITS_REF, "USDC") == place.on_chain(at.address, "USDC") == 0
    assert place.holding(at, "USDC") == 0
    # and what is left of the gas is in the books as what lies there
    place.finish()
    left = place.on_chain(at.address, "ETH")
    assert left > 0
    assert place.holding(at, "ETH") == place.custody(DEPOSITS_REF, "ETH") == left
    swept = Sweep.objects.get()
    assert (swept.units, swept.received_units) == (5_000 * USDC, 5_000 * USDC)
    assert Journal.objects.filter(reference=f"sweep:{swept.pk}").count() == 1
    place.holds()


def test_native_coin_is_collected_without_a_top_up(place: Place) -> None:
    at = place.address()
    place.deposit(at, "ETH", 2 * ETHER)
    place.watch()
    before = place.custody(place.hot.address, "ETH")
    assert sweeps_plan() == 1
    place.finish(check=True)
    swept = Sweep.objects.get()
    assert (swept.state, swept.funding, swept.received_units) == ("done", None, swept.units)
    assert place.custody(place.hot.address, "ETH") == before + swept.units
    assert swept.units > 2 * ETHER - ETHER // 100
    assert place.holding(at, "ETH") == place.on_chain(at.address, "ETH") < ETHER // 100
    place.holds()


def test_what_is_worth_less_than_its_gas_stays_until_somebody_waits_for_it(place: Place) -> None:
    # given a cent
    at = place.address()
    place.deposit(at, "USDC", USDC // 100)
    place.watch()
    # when nobody waits it stays
    assert sweeps_plan() == 0
    # and when somebody does it comes, once
    assert units_demand(asset_id=place.asset_id("USDC"), units=USDC) == USDC // 100
    assert units_demand(asset_id=place.asset_id("USDC"), units=USDC) == USDC // 100
    assert states() == ["planned"]
    place.finish(check=True)
    assert place.custody(place.hot.address, "USDC") == USDC // 100


def test_demand_takes_the_largest_first_and_no_more_than_is_wanted(place: Place) -> None:
    for units in (5, 40, 30, 20):
        place.deposit(place.address(), "USDC", units * USDC)
    assert sweeps_demand(asset_id=place.asset_id("USDC"), units=50 * USDC) == 70 * USDC
    assert sorted(Sweep.objects.values_list("units", flat=True)) == [30 * USDC, 40 * USDC]


def test_sweeps_of_one_address_take_turns_and_share_its_gas(place: Place) -> None:
    # given three assets at one address
    at = place.address()
    place.deposit(at, "USDC", 3_000 * USDC)
    place.deposit(at, "WBTC", 10**7)
    place.deposit(at, "ETH", ETHER)
    place.watch()
    assert sweeps_plan() == 3
    # when
    place.finish(rounds=40, check=True)
    # then each arrived, and nobody topped up what was there already
    assert states() == ["done"] * 3
    assert OutboundTransaction.objects.filter(purpose="gas_top_up").count() <= 1
    assert place.on_chain(place.hot.address, "WBTC") == 10**7
    place.holds()


def test_ticks_open_no_more_than_the_watcher_can_follow(place: Place) -> None:
    rows = [(place.address(), 100 * USDC) for _ in range(OPEN_MAX + 5)]
    from apps.deposits.holdings import holdings_move

    holdings_move({(at.pk, place.asset_id("USDC")): units for at, units in rows})
    assert sweeps_plan() == OPEN_MAX
    assert sweeps_plan() == 0
    assert Sweep.objects.count() == OPEN_MAX


def test_two_planners_at_once_open_one_sweep_per_address(place: Place) -> None:
    for _ in range(5):
        place.deposit(place.address(), "USDC", 1_000 * USDC)
    barrier = Barrier(4)

    def plan() -> None:
        try:
            barrier.wait(timeout=20)
            sweeps_plan()
            with transaction.atomic():
                sweeps_demand(asset_id=place.asset_id("USDC"), units=10**12)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(plan) for _ in range(4)]:
            done.result()
    assert Sweep.objects.count() == 5


def test_two_workers_at_once_send_one_transfer(place: Place) -> None:
    at = place.address()
    place.deposit(at, "USDC", 1_000 * USDC)
    place.watch()
    sweeps_plan()
    barrier = Barrier(3)

    def step() -> None:
        try:
            barrier.wait(timeout=20)
            work.drain(SWEEP_WORK, budget_seconds=0)
        finally:
            connection.close()

    for _ in range(6):
        place.due()
        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(step) for _ in range(3)]:
                done.result()
        place.advance()
    place.finish()
    assert sorted(OutboundTransaction.objects.values_list("purpose", flat=True)) == ["gas_top_up", "sweep"]
    place.holds()


def test_token_that_refuses_strands_nothing_and_is_tried_again_later(place: Place) -> None:
    # given a sweep whose transfer will revert: the address was emptied behind our back after it was sent
    at = place.address()
    place.deposit(at, "USDC", 1_000 * USDC)
    place.watch()
    sweeps_plan()
    transfer_asked_for(place)
    with Emptied(place, at.address):
        place.finish()
    # then it failed, its gas is booked, and nothing else moved
    assert states() == ["failed"]
    assert "reverted" in Sweep.objects.get().reason
    assert place.holding(at, "USDC") == place.custody(DEPOSITS_REF, "USDC") == 1_000 * USDC
    place.watch()
    place.holds()
    # and it rests, then is tried again with the gas that is there
    assert sweeps_plan() == 0
    place.travel(seconds=61)
    place.maker.refresh_feeds()
    assert sweeps_plan() == 1
    place.finish()
    assert states() == ["failed", "done"]
    assert place.custody(place.hot.address, "USDC") == 1_000 * USDC
    place.holds()


class Emptied:
    """A token whose storage is changed so that the address has nothing, and is put back afterwards."""

    def __init__(self, place: Place, address: str) -> None:
        from apps.chain.abi import keccak_bytes

        self.place = place
        self.token = place.token("USDC")
        # name, symbol, totalSupply take slots 0 to 2 (decimals and owner are immutable): balances are in slot 3.
        self.slot = "0x" + keccak_bytes(bytes.fromhex("0" * 24 + address[2:]) + (3).to_bytes(32, "big")).hex()
        self.before = str(place.node.rpc.call("eth_getStorageAt", self.token, self.slot, "latest"))

    def __enter__(self) -> None:
        assert int(self.before, 16) > 0
        self.place.node.rpc.call("anvil_setStorageAt", self.token, self.slot, "0x" + "0" * 64)

    def __exit__(self, *_: object) -> None:
        self.place.node.rpc.call(
            "anvil_setStorageAt", self.token, self.slot, "0x" + self.before[2:].rjust(64, "0")
        )
        self.place.node.mine()


def test_signer_that_refuses_ends_the_sweep_and_nothing_moved(place: Place) -> None:
    SignerRule.objects.filter(wallet_role="deposit").delete()
    at = place.address()
    place.deposit(at, "USDC", 1_000 * USDC)
    place.watch()
    sweeps_plan()
    place.finish(check=True)
    assert states() == ["failed"]
    assert "allow-list" in Sweep.objects.get().reason
    assert place.holding(at, "USDC") == 1_000 * USDC


def test_gas_wallet_pays_for_our_own_wallets_only(place: Place) -> None:
    from apps.chain import services as chain

    row = chain.transaction_request(
        network_id=place.network.pk,
        wallet_id=place.gas.pk,
        to="0x" + "5" * 40,
        data="0x",
        value_units=1,
        gas_limit=21_000,
        purpose="test",
        reference="thief",
    )
    place.advance()
    row.refresh_from_db()
    assert (row.state, row.reason) == ("failed", "a gas wallet sends to our own wallets only")
    # nor for an address that the database alone calls ours
    Wallet.objects.create(address="0x" + "6" * 40, role="deposit", derivation_index=999)
    row = chain.transaction_request(
        network_id=place.network.pk,
        wallet_id=place.gas.pk,
        to="0x" + "6" * 40,
        data="0x",
        value_units=1,
        gas_limit=21_000,
        purpose="test",
        reference="thief 2",
    )
    place.advance()
    row.refresh_from_db()
    assert (row.state, row.reason) == ("failed", "a gas wallet sends to our own wallets only")


def test_fees_that_rise_after_signing_are_topped_up(place: Place) -> None:
    # given a native transfer that was signed, and a base fee that then rises past what it can pay
    at = place.address()
    place.deposit(at, "USDC", 1_000 * USDC)
    place.watch()
    sweeps_plan()
    transfer_asked_for(place)
    for kind in (SIGN_WORK, SEND_WORK):
        place.due()
        work.drain(kind, budget_seconds=0)
    place.node.base_fee_set(wei=100 * 10**9)
    # when the stuck transfer is outbid beyond what lies at the address
    place.finish(rounds=60)
    # then it landed all the same, and every top-up is in the books
    assert states() == ["done"]
    place.holds()


def test_given_up_transfer_strands_nothing(place: Place) -> None:
    at = place.address()
    place.deposit(at, "USDC", 1_000 * USDC)
    place.watch()
    sweeps_plan()
    transfer_asked_for(place)
    sent = Sweep.objects.get().transaction
    assert sent is not None
    transaction_cancel(transaction_id=sent.pk)
    place.finish(check=True)
    assert states() == ["failed"]
    assert place.holding(at, "USDC") == 1_000 * USDC
    place.holds()


def test_reversed_deposit_is_not_collected(place: Place) -> None:
    # given a planned sweep whose deposit a reorg took back before anything was sent
    at = place.address()
    row = place.deposit(at, "USDC", 1_000 * USDC)
    place.watch()
    sweeps_plan()
    place.credit(row, sign=-1)
    # when
    place.sweep()
    # then
    assert states() == ["failed"]
    assert not OutboundTransaction.objects.exists()


@pytest.mark.parametrize("included_again", [False, True])
def test_reorg_that_takes_the_deposit_back_while_its_sweep_is_in_flight(
    place: Place, included_again: bool
) -> None:
    # given gas at the address already, so that the transfer follows the deposit closely
    at = place.address()
    place.deposit(at, "ETH", ETHER // 50)
    place.node.mine(blocks=5)
    place.watch()
    # and a deposit that was credited and whose transfer is mined, not final
    block = place.send(at, "USDC", 1_000 * USDC)
    raw = place.node.rpc.call("eth_getRawTransactionByHash", place.node.block(block)["transactions"][0]) or ""
    place.watch()
    row = place.seen(at, "USDC", 1_000 * USDC, block=block)
    place.credit(row)
    assert sweeps_demand(asset_id=place.asset_id("USDC"), units=1) == 1_000 * USDC
    place.sweep()
    place.advance()
    assert OutboundTransaction.objects.get(purpose="sweep").state == "mined"
    place.holds()
    # when the last blocks are replaced by others, with or without the deposit
    depth = place.node.block_number() - block + 1
    place.node.reorg(depth=depth, transactions=[(raw, 1)] if included_again else [])
    place.node.mine()
    place.credit(row, sign=-1)
    if included_again:
        row.refresh_from_db()
        row.state, row.sighting, row.block_number = "seen", 2, block + 1
        row.block_hash = str(place.node.block(block + 1)["hash"])
        row.save()
    place.watch()
    place.holds()
    for _ in range(4):
        place.advance()
        place.holds()
    if included_again:
        # the transfer is final before the deposit is credited anew: it waits for the books to know
        assert states() == ["sweeping"]
        place.credit(row)
    place.finish()
    place.holds()
    # then
    assert states() == (["done"] if included_again else ["failed"])
    there = 1_000 * USDC if included_again else 0
    assert place.custody(place.hot.address, "USDC") == place.on_chain(place.hot.address, "USDC") == there
    assert place.custody(DEPOSITS_REF, "USDC") == 0


def test_fee_on_transfer_is_a_loss_of_the_platform(place: Place) -> None:
    # given a token that announces all and keeps three percent on the way, which an operator allowed all the same
    code = place.odd("FeeOnTransfer", measured=True)
    at, other = place.address(), place.address()
    place.deposit(at, code, 1_000)
    place.deposit(other, code, 555)
    place.watch()
    place.holds()
    # when both are collected, in one block perhaps
    assert sweeps_demand(asset_id=place.asset_id(code), units=2_000) == 1_555
    place.finish()
    # then the books say what arrived, and the difference is lost
    assert states() == ["done", "done"]
    arrived = place.on_chain(place.hot.address, code)
    assert arrived == 970 + 539
    assert place.custody(place.hot.address, code) == arrived
    assert place.custody(DEPOSITS_REF, code) == 0
    lost = Account.objects.get(kind="loss", asset_id=place.asset_id(code)).balance_units
    assert -lost == 1_555 - arrived
    place.holds()


def test_token_that_returns_nothing_is_collected(place: Place) -> None:
    code = place.odd("NoReturn")
    at = place.address()
    place.deposit(at, code, 1_000)
    place.watch()
    assert sweeps_plan() == 0  # it has no price
    sweeps_demand(asset_id=place.asset_id(code), units=1)
    place.finish(check=True)
    assert states() == ["done"]
    assert place.custody(place.hot.address, code) == place.on_chain(place.hot.address, code) == 1_000


def test_token_that_pauses_while_it_is_collected_strands_nothing(place: Place) -> None:
    code = place.odd("Pausable")
    at = place.address()
    place.deposit(at, code, 1_000)
    place.watch()
    sweeps_demand(asset_id=place.asset_id(code), units=1)
    transfer_asked_for(place)

    def pause(on: bool) -> None:
        place.node.mining_automatic()
        place.maker.chain.write(place.odd_address, "pause(bool)", on)
        place.node.mining_manual()

    pause(True)
    place.finish()
    assert states() == ["failed"]
    # and while it is paused another try ends before anything is spent on it
    place.travel(seconds=61)
    sweeps_demand(asset_id=place.asset_id(code), units=1)
    place.finish()
    assert states() == ["failed", "failed"]
    assert Sweep.objects.order_by("pk").last().reason.startswith("the token does not tell")  # type: ignore[union-attr]
    # when it goes on
    pause(False)
    place.watch()
    place.holds()
    place.travel(seconds=121)
    assert sweeps_demand(asset_id=place.asset_id(code), units=1) == 1_000
    place.finish()
    assert states() == ["failed", "failed", "done"]
    place.holds()
