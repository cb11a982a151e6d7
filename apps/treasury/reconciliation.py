"""Ledger against chain, per wallet and asset, at one stated block.

The books are read in one REPEATABLE READ snapshot, which also says up to which block the watcher has looked
(`Network.watched_block`) and the pools have recorded; balances are then read on chain at exactly that block. What
lies in between is known: transactions mined up to that block whose effects or gas are not booked yet, arrivals
that are not credited yet, and what is booked and happened after that block. Anything else is a difference. Deposit
addresses are one line together: a pool.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Sum

from apps.chain import selectors
from apps.chain.models import Network, OutboundTransaction, Token, Wallet
from apps.chain.services import native_balances_read, token_balances_read
from apps.core.errors import Retryable
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account
from apps.treasury.domain import custody_ref
from apps.treasury.pools import PoolBooks, pools
from apps.treasury.selectors import gas_booked_units

# Addresses asked for at a time: bounds memory, and how long one endpoint has to answer.
_ADDRESSES = 1_000
# Nodes that are no archives keep the balances of their latest 128 blocks.
_BEHIND = 100


@dataclass(frozen=True, slots=True)
class Holding:
    """One wallet's or pool's units of one asset. The books hold when `chain == ledger + unbooked`."""

    network: str
    wallet: str
    asset_id: UUID
    asset_code: str
    block_number: int
    chain_units: int
    ledger_units: int
    unbooked_units: int

    @property
    def difference_units(self) -> int:
        """What the chain has more (or, when negative, less) than the books can explain."""
        return self.chain_units - self.ledger_units - self.unbooked_units


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A network, or one of its assets, whose balances could not be compared: nothing is proved about it."""

    network: str
    block_number: int
    error: str
    asset_id: UUID | None = None
    asset_code: str = ""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One look at everything. `liabilities_units` is what people have, by asset, in the same snapshot."""

    holdings: list[Holding]
    unreadable: list[Unreadable]
    liabilities_units: Mapping[UUID, int]
    assets: Mapping[UUID, Network]


@dataclass(frozen=True, slots=True)
class _Books:
    """One consistent reading of our side of a network. Contracts are lower case, `""` is the native coin.

    Custody and unbooked units are by the custody account's ref: a wallet's address, or a pool's name.
    """

    network: Network
    block_number: int
    wallets: list[str]
    assets: dict[str, tuple[UUID, str]]
    custody_units: dict[tuple[UUID, str], int]
    unbooked_units: dict[tuple[str, str], int]
    pools: dict[str, PoolBooks] = field(default_factory=dict)
    # Why a pool cannot be compared, by its ref.
    unproved: dict[str, str] = field(default_factory=dict)


def holdings_reconcile() -> tuple[list[Holding], list[Unreadable]]:
    """Every wallet's and pool's holding of every asset of every watched network, and what could not be compared.

    Wallets that the ledger has custody at and that are no wallets of ours appear too, with nothing on chain.
    """
    found = reconcile()
    return found.holdings, found.unreadable


def reconcile() -> Reconciled:
    """`holdings_reconcile` with what the proof of reserves needs besides."""
    with _one_snapshot():
        networks = _watched()
        reasons = {network.pk: _incomparable(network) for network in networks}
        books = [_books(network) for network in networks if not reasons[network.pk]]
        liabilities = _liabilities()
    holdings: list[Holding] = []
    unreadable = [
        Unreadable(network.name, int(network.watched_block or 0), reason)
        for network in networks
        if (reason := reasons[network.pk])
    ]
    for of_network in books:
        try:
            found, lost = _compare(of_network)
        except Retryable as error:
            unreadable.append(Unreadable(of_network.network.name, of_network.block_number, str(error)))
        else:
            holdings += found
            unreadable += lost
    assets = {asset_id: one.network for one in books for asset_id, _ in one.assets.values()}
    return Reconciled(holdings, unreadable, liabilities, assets)


@contextmanager
def _one_snapshot() -> Iterator[None]:
    """All reads inside see one state of the database. The chain is not asked inside: it may be slow.

    Inside a caller's transaction its isolation stands: PostgreSQL sets it before the first statement only.
    """
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _watched() -> list[Network]:
    return list(
        Network.objects.select_related("native_asset").filter(watched_block__isnull=False).order_by("name")
    )


def _incomparable(network: Network) -> str:
    """Why a network's books cannot be held against the chain just now; empty when they can."""
    if network.halted_at is not None:
        return f"the network is halted: {network.halted_reason}"
    looked_for = selectors.rechecks_open_count(network_id=network.pk)
    return (
        f"final transactions that a fork may have taken back are looked for: {looked_for}"
        if looked_for
        else ""
    )


def _liabilities() -> dict[UUID, int]:
    rows = (
        Account.objects.filter(kind__in=[AccountKind.AVAILABLE, AccountKind.HELD])
        .order_by()
        .values_list("asset_id")
        .annotate(units=Sum("balance_units"))
    )
    return {asset_id: int(units) for asset_id, units in rows}


def _books(network: Network) -> _Books:
    assets = {
        token.address: (token.asset_id, token.asset.code)
        for token in Token.objects.select_related("asset").filter(network=network)
    }
    assets[""] = (network.native_asset_id, network.native_asset.code)
    custody = {
        (account.asset_id, account.ref): account.balance_units
        for account in Account.objects.filter(
            kind=AccountKind.CUSTODY, asset_id__in=[asset_id for asset_id, _ in assets.values()]
        )
    }
    block_number, unproved = _block_number(network)
    found = {
        pool.ref: pool.books(network=network, block_number=block_number)
        for pool in pools()
        if pool.ref not in unproved
    }
    unbooked = _unbooked(network, block_number)
    for ref, one in found.items():
        for token, (asset_id, _) in assets.items():
            unbooked[ref, token] = unbooked.get((ref, token), 0) + one.unbooked_units.get(asset_id, 0)
    pooled = [pool.role for pool in pools()]
    return _Books(
        network=network,
        block_number=block_number,
        wallets=list(
            Wallet.objects.exclude(role__in=pooled)
            .order_by("created_at", "id")
            .values_list("address", flat=True)
        ),
        assets=assets,
        custody_units=custody,
        unbooked_units=unbooked,
        pools=found,
        unproved=unproved,
    )


def _block_number(network: Network) -> tuple[int, dict[str, str]]:
    """The block to compare at, and which pools cannot be, with the reason.

    A pool may be some blocks behind the watcher: then all of the network is compared at its block. Not so far
    behind that nodes may have let go of that block's balances.
    """
    watched = int(network.watched_block or 0)
    block, unproved = watched, {}
    for pool in pools():
        recorded = pool.recorded_to(network=network)
        if recorded is not None and recorded < watched - _BEHIND:
            unproved[pool.ref] = f"arrivals are recorded up to block {recorded} of {watched} only"
        elif recorded is not None:
            block = min(block, recorded)
    return block, unproved


def _unbooked(network: Network, block_number: int) -> dict[tuple[str, str], int]:
    """(custody ref, token or "") to the signed units by which the chain at a block is ahead of the books.

    What transactions mined by then moved and nobody has booked yet; less what is booked already and was mined later.
    """
    units: dict[tuple[str, str], int] = defaultdict(int)
    rows = OutboundTransaction.objects.select_related("wallet", "attempt").filter(network=network)
    by_then, later = rows.filter(block_number__lte=block_number), rows.filter(block_number__gt=block_number)
    moves = [(move, 1) for row in by_then.filter(booked_at=None) for move in selectors.transaction_moves(row)]
    moves += [
        (move, -1) for row in later.exclude(booked_at=None) for move in selectors.transaction_moves(row)
    ]
    refs = _refs({address for move, _ in moves for address in (move.sender, move.receiver)})
    for move, way in moves:
        for address, sign in ((move.sender, -way), (move.receiver, way)):
            if address in refs:
                units[refs[address], move.token or ""] += sign * move.units
    burned = list(by_then.filter(gas_booked_at=None, gas_used__gt=0))
    ahead = list(later.filter(gas_used__gt=0))
    # Of one that a fork put elsewhere, only the difference is not booked yet.
    booked = (
        gas_booked_units(transaction_ids=[row.pk for row in (*burned, *ahead)]) if burned or ahead else {}
    )
    for row in burned:
        units[_ref(row), ""] -= row.gas_cost_units - booked.get(row.pk, 0)
    for row in ahead:
        units[_ref(row), ""] += booked.get(row.pk, 0)
    return dict(units)


def _ref(row: OutboundTransaction) -> str:
    return custody_ref(address=row.wallet.address, role=row.wallet.role)


def _refs(addresses: set[str]) -> dict[str, str]:
    """Which of these addresses are ours, and the custody account that stands for each."""
    ours = Wallet.objects.filter(address__in=addresses).values_list("address", "role")
    return {address: custody_ref(address=address, role=role) for address, role in ours}


def _compare(books: _Books) -> tuple[list[Holding], list[Unreadable]]:
    ours = {*books.wallets, *books.pools, *books.unproved}
    strangers = sorted({ref for (_, ref), units in books.custody_units.items() if units and ref not in ours})
    holdings: list[Holding] = []
    unreadable: list[Unreadable] = []
    for token, (asset_id, code) in books.assets.items():
        try:
            on_chain = _chain_units(books, token, asset_id)
        except _SilentTokenError as error:
            unreadable.append(Unreadable(books.network.name, books.block_number, str(error), asset_id, code))
            continue
        reasons = [
            reason for ref, reason in books.unproved.items() if books.custody_units.get((asset_id, ref))
        ]
        reasons += [pool.unproved[asset_id] for pool in books.pools.values() if asset_id in pool.unproved]
        unreadable += [
            Unreadable(books.network.name, books.block_number, reason, asset_id, code) for reason in reasons
        ]
        holdings += [
            Holding(
                network=books.network.name,
                wallet=ref,
                asset_id=asset_id,
                asset_code=code,
                block_number=books.block_number,
                chain_units=on_chain.get(ref, 0),
                ledger_units=-books.custody_units.get((asset_id, ref), 0),
                unbooked_units=books.unbooked_units.get((ref, token), 0),
            )
            for ref in [*books.wallets, *books.pools, *strangers]
        ]
    return holdings, unreadable


class _SilentTokenError(Exception):
    """A token's contract does not tell balances."""


def _chain_units(books: _Books, token: str, asset_id: UUID) -> dict[str, int]:
    """Custody ref to units on chain at the block: wallets one by one, a pool's addresses added up."""
    units = dict(zip(books.wallets, _balances(books, token, books.wallets), strict=True))
    for ref, pool in books.pools.items():
        addresses = pool.addresses.get(asset_id, ())
        units[ref] = sum(
            sum(_balances(books, token, addresses[start : start + _ADDRESSES]))
            for start in range(0, len(addresses), _ADDRESSES)
        )
    return units


def _balances(books: _Books, token: str, addresses: Sequence[str]) -> list[int]:
    network_id, block = books.network.pk, books.block_number
    if not token:
        return native_balances_read(network_id=network_id, addresses=addresses, block=block)
    found = []
    for address, units in zip(
        addresses,
        token_balances_read(network_id=network_id, token=token, addresses=addresses, block=block),
        strict=True,
    ):
        if units is None:
            raise _SilentTokenError(f"token {token} does not tell the balance of {address}")
        found.append(units)
    return found
