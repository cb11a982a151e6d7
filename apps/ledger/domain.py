"""The ledger's pure values: accounts, postings, journals. Nothing here knows the database.

Signs: entries are signed base units that sum to zero per journal and asset. What we owe people, income and
equity are credit-normal and never below zero; what we hold on chain and expenses are debit-normal and never
above zero, so that a custody balance is minus the units on chain.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

REFERENCE_MAX_LENGTH = 200
KIND_MAX_LENGTH = 48


class AccountKind(StrEnum):
    """What an account stands for; decides its normal side."""

    AVAILABLE = "available"  # a person's, free to use
    HELD = "held"  # a person's, set aside for something that is under way
    FEES = "fees"  # the platform's income
    EQUITY = "equity"  # the platform's own money, and where credits by hand come from
    CUSTODY = "custody"  # what a wallet holds on chain; `ref` is its address
    GAS = "gas"  # the platform's expense
    LOSS = "loss"  # the platform's too: what contracts took on the way, what was written off
    OWED = "owed"  # what a person owes us: a deposit that the chain took back when it was spent already


CREDIT_NORMAL = frozenset({AccountKind.AVAILABLE, AccountKind.HELD, AccountKind.FEES, AccountKind.EQUITY})
DEBIT_NORMAL = frozenset({AccountKind.CUSTODY, AccountKind.GAS, AccountKind.LOSS, AccountKind.OWED})
PERSONAL = frozenset({AccountKind.AVAILABLE, AccountKind.HELD, AccountKind.OWED})


@dataclass(frozen=True, slots=True)
class AccountKey:
    """What makes an account the one it is: at most one account exists per key."""

    kind: AccountKind
    asset_id: UUID
    owner_id: UUID | None = None
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Posting:
    """`amount_units` (signed base units of the account's asset) added to an account."""

    account_id: UUID
    amount_units: int

    def reverse(self) -> "Posting":
        return Posting(self.account_id, -self.amount_units)


@dataclass(frozen=True, slots=True)
class JournalDraft:
    """One journal that is to be posted whole or not at all.

    `reference` is unique in the ledger and makes posting idempotent: the caller derives it from the fact that
    it books (`slot:<id>:reserve`). `metadata` is JSON and part of the content. `reverses_id` is for
    `services.journal_reverse`.
    """

    kind: str
    reference: str
    postings: Sequence[Posting]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    reverses_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class PostResult:
    """How many journals were written, and how many had been written before with the same content."""

    posted: int
    repeated: int


def metadata_encode(metadata: Mapping[str, Any]) -> str:
    """Canonical JSON: equal metadata has equal text. Raises `TypeError`/`ValueError` for what is not JSON."""
    if not metadata:
        return "{}"
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"), allow_nan=False)


def postings_net(postings: Sequence[Posting]) -> dict[int, int]:
    """Amount per account (by the integer of its id), first mention first; what nets to nothing drops out.

    Raises `TypeError` for an amount that is no `int`: PostgreSQL would round a fraction without a word.
    """
    net: dict[int, int] = {}
    for posting in postings:
        units = posting.amount_units
        if type(units) is not int:
            raise TypeError(f"amounts are int base units, not {type(units).__name__}")
        number = posting.account_id.int
        net[number] = net[number] + units if number in net else units
    if 0 in net.values():
        net = {number: units for number, units in net.items() if units}
    return net


def content_fingerprint(
    *, kind: str, net: Mapping[int, int], metadata_json: str, reverses: str = ""
) -> bytes:
    """SHA-256 over what a journal says. The order of its postings says nothing and does not count."""
    lines = [f"{number:032x}{units:+d}" for number, units in sorted(net.items())]
    return hashlib.sha256(f"{kind}\n{reverses}\n{metadata_json}\n{lines}".encode()).digest()


def hold(
    *,
    reference: str,
    available_id: UUID,
    held_id: UUID,
    units: int,
    metadata: Mapping[str, Any] | None = None,
) -> JournalDraft:
    """Set `units` of a person's available funds aside. Raises `ValueError` unless positive."""
    return _move("hold", reference, available_id, held_id, units, metadata)


def release(
    *,
    reference: str,
    available_id: UUID,
    held_id: UUID,
    units: int,
    metadata: Mapping[str, Any] | None = None,
) -> JournalDraft:
    """Give `units` of what was held back to available. Raises `ValueError` unless positive."""
    return _move("release", reference, held_id, available_id, units, metadata)


def _move(
    kind: str,
    reference: str,
    source_id: UUID,
    target_id: UUID,
    units: int,
    metadata: Mapping[str, Any] | None,
) -> JournalDraft:
    if units <= 0:
        raise ValueError(f"a {kind} moves a positive amount, not {units}")
    return JournalDraft(
        kind, reference, (Posting(source_id, -units), Posting(target_id, units)), metadata or {}
    )
