"""Approvals: bounded, asked for once, and never short because of swaps under way."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from django.db import connection, transaction

from apps.chain import abi
from apps.chain.domain import TransactionState
from apps.chain.models import OutboundTransaction, Wallet
from apps.chain.services import transaction_request, wallet_cap_set, wallet_create
from apps.core import clock
from apps.core.errors import Retryable, Terminal
from apps.providers.models import Market, VenueAllowance
from apps.providers.services import allowance_ensure, quotes_best, swap_build
from apps.providers.services.allowances import COVER_SWAPS, AllowanceState
from apps.sandbox.market import Market as Maker
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.contracts import Contracts
from apps.sandbox.runtime.deployment import Deployment
from tests.providers.support import House, deadline, house_open

AMOUNT = 1_000 * 10**6


@pytest.fixture
def pair(house: House) -> Market:
    pair = house.market("USDC", "WETH")
    house.v2_route(pair)
    house.v3_route(pair, 500)
    return pair


@pytest.fixture
def wallet(house: House) -> Wallet:
    return wallet_create(role="swap")


def _ensure(house: House, pair: Market, wallet: Wallet, units: int = AMOUNT) -> AllowanceState:
    return allowance_ensure(
        venue_id=house.v2.pk, market_id=pair.pk, wallet_id=wallet.pk, amount_units=units, notify="bell"
    )


def _mine(house: House, wallet: Wallet, row: OutboundTransaction) -> None:
    """Send the call as the wallet would (the node lends its name) and note what became of it."""
    node = house.node
    node.balance_set(wallet.address, wei=10**18)
    node.rpc.call("anvil_impersonateAccount", wallet.address)
    spender, units = abi.arguments("approve(address,uint256)", row.data)
    Contracts(node.rpc, sender=wallet.address).write(row.to, "approve(address,uint256)", spender, units)
    OutboundTransaction.objects.filter(pk=row.pk).update(
        state=TransactionState.CONFIRMED,
        finalized_at=clock.now(),
        nonce=OutboundTransaction.objects.filter(nonce__isnull=False).count(),
        block_number=node.block_number(),
        gas_used=46_000,
        succeeded=True,
    )


def _swap(house: House, market: Market, wallet: Wallet, units: int) -> OutboundTransaction:
    """A swap that was asked for, at the venue that pays best."""
    quote = quotes_best(market_id=market.pk, amount_in_units=units)
    call = swap_build(quote=quote, min_out_units=1, recipient=wallet.address, deadline=deadline())
    return transaction_request(
        network_id=house.network.pk,
        wallet_id=wallet.pk,
        to=call.to,
        data=call.data,
        gas_limit=call.gas_limit,
        purpose="swap",
        reference=f"swap:{market.pk}",
    )


def test_missing_allowance_is_asked_for_once_and_bounded(house: House, pair: Market, wallet: Wallet) -> None:
    # when it is asked for again and again while the approval is under way
    states = [_ensure(house, pair, wallet) for _ in range(3)]
    # then there is one transaction, for a bounded amount
    row = OutboundTransaction.objects.get()
    # and swaps may be asked for at once, to go out right after it
    assert [(bool(state), state.transaction_id) for state in states] == [(True, row.pk)] * 3
    assert row.to == house.deployment.token("USDC").address
    assert abi.arguments("approve(address,uint256)", row.data) == (
        house.v2.router_address,
        AMOUNT * COVER_SWAPS,
    )
    assert (row.notify, row.purpose) == ("bell", "allowance")
    # and once it is mined the allowance is there, and nothing more is asked
    _mine(house, wallet, row)
    state = _ensure(house, pair, wallet)
    assert (bool(state), state.transaction_id) == (True, None)
    assert state.allowance_units == AMOUNT * COVER_SWAPS
    assert OutboundTransaction.objects.count() == 1


def test_used_up_allowance_is_reset_before_it_is_raised(house: House, pair: Market, wallet: Wallet) -> None:
    _ensure(house, pair, wallet)
    _mine(house, wallet, OutboundTransaction.objects.get())
    # when more is needed than is left
    state = _ensure(house, pair, wallet, AMOUNT * 20)
    # then a reset goes first (some tokens refuse anything else), then the new amount
    asked = OutboundTransaction.objects.exclude(state="confirmed").order_by("created_at")
    amounts = [abi.arguments("approve(address,uint256)", row.data)[1] for row in asked]
    assert amounts == [0, AMOUNT * 20 * COVER_SWAPS]
    assert (bool(state), state.transaction_id) == (True, asked[1].pk)
    # whatever delays the reset's signature
    assert [row.after_id for row in asked] == [None, asked[0].pk]
    assert VenueAllowance.objects.get().round == 2


def test_each_venue_has_its_own_allowance(house: House, pair: Market, wallet: Wallet) -> None:
    first = _ensure(house, pair, wallet)
    second = allowance_ensure(
        venue_id=house.v3.pk, market_id=pair.pk, wallet_id=wallet.pk, amount_units=AMOUNT
    )
    assert first.transaction_id != second.transaction_id
    assert VenueAllowance.objects.count() == 2


@pytest.mark.parametrize("kind", ["uniswap_v2", "uniswap_v3"])
def test_swaps_under_way_keep_what_they_will_take(
    house: House, pair: Market, wallet: Wallet, kind: str
) -> None:
    # given an allowance for two amounts, and a swap of one and a half that is not mined yet
    venue = house.v2 if kind == "uniswap_v2" else house.v3
    pair.routes.exclude(venue=venue).delete()
    wallet_cap_set(
        wallet_id=wallet.pk,
        asset_id=pair.sold_asset_id,
        per_transaction_units=2 * AMOUNT,
        daily_units=100 * AMOUNT,
    )
    ask: Callable[[], AllowanceState] = lambda: allowance_ensure(  # noqa: E731
        venue_id=venue.pk, market_id=pair.pk, wallet_id=wallet.pk, amount_units=AMOUNT
    )
    assert ask()
    _mine(house, wallet, OutboundTransaction.objects.get())
    assert ask().allowance_units == 2 * AMOUNT
    swap = _swap(house, pair, wallet, AMOUNT * 3 // 2)
    # then the half that is left does not do, and the cap allows no larger approval: wait
    state = ask()
    assert (bool(state), state.transaction_id) == (False, None)
    # and when the swap has ended, there is room again
    OutboundTransaction.objects.filter(pk=swap.pk).update(
        state=TransactionState.CANCELLED, finalized_at=clock.now()
    )
    assert ask()


def test_approval_covers_swaps_as_large_as_the_last_ones_at_any_venue(
    house: House, pair: Market, wallet: Wallet
) -> None:
    # given a large swap at one venue some time ago
    pair.routes.exclude(venue=house.v3).delete()
    swap = _swap(house, pair, wallet, 5 * AMOUNT)
    # and one of far more units of another token
    other = house.market("WETH", "USDC")
    house.v3_route(other, 500)
    foreign = _swap(house, other, wallet, 10**18)
    OutboundTransaction.objects.filter(pk=foreign.pk).update(nonce=1)
    OutboundTransaction.objects.filter(pk=swap.pk).update(
        state=TransactionState.CONFIRMED,
        finalized_at=clock.now(),
        nonce=0,
        block_number=1,
        gas_used=150_000,
        succeeded=True,
    )
    # when a small one asks at another venue
    state = _ensure(house, pair, wallet, AMOUNT)
    # then the next large one will not have to ask
    approval = OutboundTransaction.objects.get(purpose="allowance")
    assert state.transaction_id == approval.pk
    wanted = abi.arguments("approve(address,uint256)", approval.data)[1]
    assert wanted == AMOUNT + 5 * AMOUNT * (COVER_SWAPS - 1)


def test_approval_stays_within_the_signers_cap(house: House, pair: Market, wallet: Wallet) -> None:
    wallet_cap_set(
        wallet_id=wallet.pk,
        asset_id=pair.sold_asset_id,
        per_transaction_units=3 * AMOUNT,
        daily_units=9 * AMOUNT,
    )
    _ensure(house, pair, wallet)
    assert abi.arguments("approve(address,uint256)", OutboundTransaction.objects.get().data)[1] == 3 * AMOUNT
    with pytest.raises(Terminal, match="cap"):
        _ensure(house, pair, wallet, 4 * AMOUNT)


def test_approval_that_failed_is_not_asked_for_at_once_again(
    house: House, pair: Market, wallet: Wallet, time_travel: Callable[..., int]
) -> None:
    _ensure(house, pair, wallet)
    OutboundTransaction.objects.update(
        state=TransactionState.FAILED, finalized_at=clock.now(), reason="not on the allow-list"
    )
    with pytest.raises(Retryable, match="not on the allow-list"):
        _ensure(house, pair, wallet)
    assert OutboundTransaction.objects.count() == 1
    time_travel(seconds=120)
    assert _ensure(house, pair, wallet)
    assert OutboundTransaction.objects.count() == 2


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="it is too small"),
        pytest.param({"next_attempt": "cancel"}, id="it is being given up"),
    ],
)
def test_no_swap_counts_on_an_approval_that_will_not_do(
    house: House, pair: Market, wallet: Wallet, change: dict[str, str]
) -> None:
    # given an approval under way
    approval_id = _ensure(house, pair, wallet).transaction_id
    OutboundTransaction.objects.update(**change)
    # when a swap wants more than it covers, or one of its size comes while it is given up
    state = _ensure(house, pair, wallet, AMOUNT if change else AMOUNT * (COVER_SWAPS + 1))
    # then it waits for what becomes of that one
    assert (bool(state), state.transaction_id) == (False, approval_id)
    assert OutboundTransaction.objects.count() == 1


def test_what_swaps_under_way_take_of_an_approval_under_way_is_theirs(
    house: House, pair: Market, wallet: Wallet
) -> None:
    pair.routes.exclude(venue=house.v2).delete()
    approval_id = _ensure(house, pair, wallet).transaction_id
    _swap(house, pair, wallet, AMOUNT * (COVER_SWAPS - 1))

    enough, too_much = _ensure(house, pair, wallet), _ensure(house, pair, wallet, AMOUNT + 1)

    assert (bool(enough), enough.transaction_id) == (True, approval_id)
    assert (bool(too_much), too_much.transaction_id) == (False, approval_id)


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_miss_an_allowance_ask_for_one(
    chain_node: Anvil, deployment: Deployment, market: Maker
) -> None:
    house = house_open(chain_node, deployment)
    pair, wallet = house.market("USDC", "WETH"), wallet_create(role="swap")
    VenueAllowance.objects.create(venue=house.v2, asset=pair.sold_asset, wallet=wallet)

    # First the race, with the row not locked: both read round 0 and make a next one of their own.
    def unlocked(number: int, barrier: Barrier) -> None:
        with transaction.atomic():
            row = VenueAllowance.objects.get()
            barrier.wait(timeout=10)
            if row.transaction_id is None:
                made = _request(house, wallet, reference=f"unlocked:{row.round + 1}:{number}")
                VenueAllowance.objects.filter(pk=row.pk).update(round=row.round + 1, transaction=made)

    _both(unlocked)
    assert OutboundTransaction.objects.count() == 2
    VenueAllowance.objects.update(round=0, transaction=None)
    OutboundTransaction.objects.all().delete()

    # Then the real one.
    states: list[UUID | None] = []

    def locked(number: int, barrier: Barrier) -> None:
        barrier.wait(timeout=10)
        states.append(_ensure(house, pair, wallet).transaction_id)

    _both(locked)
    assert states == [OutboundTransaction.objects.get().pk] * 2


def _request(house: House, wallet: Wallet, *, reference: str) -> OutboundTransaction:
    return transaction_request(
        network_id=house.network.pk,
        wallet_id=wallet.pk,
        to=house.deployment.token("USDC").address,
        data="0x",
        gas_limit=1,
        purpose="test",
        reference=reference,
    )


def _both(act: Callable[[int, Barrier], None]) -> None:
    barrier = Barrier(2)

    def run(number: int) -> None:
        try:
            act(number, barrier)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
