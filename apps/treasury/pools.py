"""Pools: custody accounts that stand for many addresses at once, kept by a floor above.

The deposits app registers one for everybody's deposit addresses. It knows which addresses hold what, and what
arrived and is not booked; reconciliation, gas booking and whoever waits for units ask it here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from apps.chain.models import Network


@dataclass(frozen=True, slots=True)
class PoolBooks:
    """What a pool should hold on one network, from one reading of the database.

    `addresses` are those to read on chain, by asset: every address with booked units, with arrivals that are not
    booked, or with a transaction under way. `unbooked_units` arrived up to the block and are not in the ledger.
    """

    addresses: Mapping[UUID, Sequence[str]] = field(default_factory=dict)
    unbooked_units: Mapping[UUID, int] = field(default_factory=dict)
    # Assets that cannot be compared just now, and why.
    unproved: Mapping[UUID, str] = field(default_factory=dict)


class Pool(Protocol):
    """One custody account (`ref`) for all wallets of one role."""

    ref: str
    role: str

    def recorded_to(self, *, network: Network) -> int | None:
        """The highest block whose arrivals are all recorded; None when nothing can have arrived."""

    def books(self, *, network: Network, block_number: int) -> PoolBooks:
        """What it should hold at `block_number`. Inside the caller's snapshot of the database."""

    def gas_pay(self, *, asset_id: UUID, units: Mapping[str, int]) -> set[str]:
        """Lower the pool's own books by gas burned, by address; returns the addresses that cannot pay it.

        In the transaction that books the gas; those returned are left unbooked.
        """

    def demand(self, *, asset_id: UUID, units: int) -> int:
        """Somebody waits for `units` in the collecting wallet: begin to bring them; returns how many are coming."""


_pools: dict[str, Pool] = {}


def register(pool: Pool) -> None:
    """Make a pool known; called once, when its app is ready."""
    _pools[pool.role] = pool


def pools() -> list[Pool]:
    return [_pools[role] for role in sorted(_pools)]


def pool_of(*, role: str) -> Pool | None:
    """The pool that wallets of a role belong to, if any."""
    return _pools.get(role)


def units_demand(*, asset_id: UUID, units: int) -> int:
    """Have every pool bring what it has of an asset, up to `units`; returns how many units are on their way.

    In the caller's transaction, which then rings. Asking again brings nothing twice.
    """
    coming = 0
    for pool in pools():
        if coming < units:
            coming += pool.demand(asset_id=asset_id, units=units - coming)
    return coming
