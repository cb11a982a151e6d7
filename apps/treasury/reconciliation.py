"""Ledger against chain, per wallet and asset, at one stated block.

The books are read in one REPEATABLE READ snapshot, which also says up to which block the watcher has looked
(`Network.watched_block`); balances are then read on chain at exactly that block. What lies in between is known:
transactions mined up to that block whose effects or gas are not booked yet. Anything else is a difference.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, transaction

from apps.chain import abi, selectors
from apps.chain.domain import Call
from apps.chain.models import Network, OutboundTransaction, Token, Wallet
from apps.chain.services import calls_read, native_balance_read
from apps.core.errors import Retryable
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account


@dataclass(frozen=True, slots=True)
class Holding:
    """One wallet's units of one asset. The books hold when `chain == ledger + unbooked`."""

    network: str
    wallet: str
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
    """A network whose balances could not be read: nothing is proved about it."""

    network: str
    block_number: int
    error: str


@dataclass(frozen=True, slots=True)
class _Books:
    """One consistent reading of our side of a network. Addresses are lower case, `""` is the native coin."""

    network: Network
    wallets: list[Wallet]
    assets: dict[str, tuple[UUID, str]]
    custody_units: dict[tuple[UUID, str], int]
    unbooked_units: dict[tuple[str, str], int]

    @property
    def block_number(self) -> int:
        return int(self.network.watched_block or 0)


def holdings_reconcile() -> tuple[list[Holding], list[Unreadable]]:
    """Every wallet's holding of every asset of every watched network, and the networks that did not answer.

    Wallets that the ledger has custody at and that are no wallets of ours appear too, with nothing on chain.
    """
    with _one_snapshot():
        books = [_books(network) for network in _watched()]
    holdings: list[Holding] = []
    unreadable: list[Unreadable] = []
    for of_network in books:
        try:
            holdings += _compare(of_network)
        except Retryable as error:
            unreadable.append(Unreadable(of_network.network.name, of_network.block_number, str(error)))
    return holdings, unreadable


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
    return _Books(
        network=network,
        wallets=list(Wallet.objects.order_by("created_at", "id")),
        assets=assets,
        custody_units=custody,
        unbooked_units=_unbooked(network),
    )


def _unbooked(network: Network) -> dict[tuple[str, str], int]:
    """(wallet, token or "") to the signed units that mined transactions moved and the ledger does not hold yet."""
    units: dict[tuple[str, str], int] = defaultdict(int)
    rows = OutboundTransaction.objects.select_related("wallet").filter(
        network=network, block_number__lte=network.watched_block
    )
    for row in rows.filter(booked_at__isnull=True):
        for token, delta_units in selectors.transaction_effects(row):
            units[row.wallet.address, token or ""] += delta_units
    for row in rows.filter(gas_booked_at__isnull=True):
        units[row.wallet.address, ""] -= row.gas_cost_units
    return dict(units)


def _compare(books: _Books) -> list[Holding]:
    on_chain = _chain_units(books)
    ours = {wallet.address for wallet in books.wallets}
    strangers = {ref for (_, ref), units in books.custody_units.items() if units and ref not in ours}
    return [
        Holding(
            network=books.network.name,
            wallet=wallet,
            asset_code=code,
            block_number=books.block_number,
            chain_units=on_chain.get((wallet, token), 0),
            ledger_units=-books.custody_units.get((asset_id, wallet), 0),
            unbooked_units=books.unbooked_units.get((wallet, token), 0),
        )
        for wallet in [*(wallet.address for wallet in books.wallets), *sorted(strangers)]
        for token, (asset_id, code) in books.assets.items()
    ]


def _chain_units(books: _Books) -> dict[tuple[str, str], int]:
    """(wallet, token or "") to units on chain at the watched block: one batch, and one read per wallet."""
    pairs = [(wallet.address, token) for wallet in books.wallets for token in books.assets if token]
    calls = [Call(to=token, data=abi.call_data("balanceOf(address)", [wallet])) for wallet, token in pairs]
    units: dict[tuple[str, str], int] = {}
    answers = calls_read(network_id=books.network.pk, calls=calls, block=books.block_number) if calls else []
    for pair, answer in zip(pairs, answers, strict=True):
        if not isinstance(answer, bytes):
            raise Retryable(f"token {pair[1]} does not tell the balance of {pair[0]}")
        units[pair] = int(abi.decode(["uint256"], answer)[0])
    for wallet in books.wallets:
        units[wallet.address, ""] = native_balance_read(
            network_id=books.network.pk, address=wallet.address, block=books.block_number
        )
    return units
