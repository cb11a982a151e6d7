"""States of an outbound transaction, its fees, and a few pure values. No database, no network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import models

# Nodes accept a replacement when both fees rise by at least 10 % (geth) or 12.5 % (others): we take the higher.
BUMP_NUMERATOR, BUMP_DENOMINATOR = 9, 8
# A cancellation must outbid what it replaces, which may already stand at the network's cap.
CANCEL_CAP_FACTOR = 2
ZERO_HASH = "0x" + "0" * 64


class TransactionState(models.TextChoices):
    """Whose desk the transaction lies on. `TRANSITIONS` says what may follow what."""

    QUEUED = "queued", "Queued for the signer"
    SIGNED = "signed", "Signed, to be broadcast"
    SENT = "sent", "Broadcast or in doubt"
    MINED = "mined", "In a block"
    CONFIRMED = "confirmed", "Succeeded at depth"
    REVERTED = "reverted", "Reverted at depth"
    CANCELLED = "cancelled", "Replaced by a self-transfer, or never sent"
    SUPERSEDED = "superseded", "A foreign transaction took the nonce"
    FAILED = "failed", "Refused by the signer"


S = TransactionState

FINAL = frozenset({S.CONFIRMED, S.REVERTED, S.CANCELLED, S.FAILED})
# A transaction with a nonce may be mined at any moment, also while a replacement is being signed.
OUTSTANDING = frozenset({S.QUEUED, S.SIGNED, S.SENT, S.SUPERSEDED})

TRANSITIONS: Mapping[TransactionState, frozenset[TransactionState]] = {
    S.QUEUED: frozenset({S.SIGNED, S.FAILED, S.CANCELLED, S.MINED, S.SUPERSEDED}),
    S.SIGNED: frozenset({S.SENT, S.QUEUED, S.MINED, S.SUPERSEDED}),
    S.SENT: frozenset({S.MINED, S.QUEUED, S.SUPERSEDED}),
    S.MINED: frozenset({S.SENT, S.CONFIRMED, S.REVERTED, S.CANCELLED}),
    S.SUPERSEDED: frozenset({S.SENT, S.QUEUED, S.MINED, S.FAILED}),
    S.CONFIRMED: frozenset(),
    S.REVERTED: frozenset(),
    S.CANCELLED: frozenset(),
    S.FAILED: frozenset(),
}


# The reason of a signed transaction that nodes refuse because its wallet cannot pay for it.
OUT_OF_GAS = "the wallet cannot pay for gas"


class AttemptKind(models.TextChoices):
    """What the signer is asked for next, and what an attempt is."""

    ORIGINAL = "original", "The intent itself"
    REPLACEMENT = "replacement", "The same intent with higher fees"
    CANCEL = "cancel", "A self-transfer at the same nonce"


@dataclass(frozen=True)
class Fees:
    """EIP-1559 fees per unit of gas, in the native coin's base units."""

    max_fee_units: int
    priority_fee_units: int


def bump(units: int) -> int:
    """Raise a fee by 12.5 %, rounded up, and by at least one unit."""
    return max(units + 1, -(-units * BUMP_NUMERATOR // BUMP_DENOMINATOR))


def fees_initial(
    *, base_fee_units: int, priority_fee_units: int, cap_units: int, priority_cap_units: int
) -> Fees:
    """Room for the base fee to double (six full blocks), within the caps; the tip never exceeds the fee."""
    priority = min(priority_fee_units, priority_cap_units, cap_units)
    return Fees(min(2 * base_fee_units + priority, cap_units), priority)


def fees_replacement(*, last: Fees, market: Fees, cap_units: int) -> Fees | None:
    """Fees that outbid `last`, at least the market's; None when that would exceed the cap: cancel instead."""
    max_fee, priority = bump(last.max_fee_units), bump(last.priority_fee_units)
    if max_fee > cap_units:
        return None
    max_fee = max(max_fee, min(market.max_fee_units, cap_units))
    return Fees(max_fee, min(max(priority, market.priority_fee_units), max_fee))


def fees_cancel(*, last: Fees, market: Fees, cap_units: int) -> Fees | None:
    """Fees for the self-transfer; may pass the cap, but not twice the cap. None: nothing more may be bid."""
    return fees_replacement(last=last, market=market, cap_units=CANCEL_CAP_FACTOR * cap_units)


def depth(*, tip: int, number: int) -> int:
    """Confirmations of a block: the tip itself has one."""
    return tip - number + 1


@dataclass(frozen=True)
class Call:
    """A read: `to` is an address, `data` hex."""

    to: str
    data: str
    value_units: int = 0
    sender: str = ""


@dataclass(frozen=True)
class CallReverted:
    """The contract refused. `reason` is decoded where the data allows; `data` is the raw revert data."""

    reason: str
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Move:
    """Units that went from one address to another; `token` is None for native coin."""

    token: str | None
    sender: str
    receiver: str
    units: int


@dataclass(frozen=True)
class Header:
    """A block header as far as we keep it."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    base_fee_units: int


@dataclass(frozen=True)
class HeadView:
    """Reads at one head: a result per call, and the tip per gas (wei) that the node suggests there, 0 if none."""

    header: Header
    answers: list[bytes | CallReverted]
    priority_fee_units: int


@dataclass(frozen=True)
class Receipt:
    """What a mined transaction did. `status` is True for success."""

    transaction_hash: str
    block_number: int
    block_hash: str
    status: bool
    gas_used: int
    effective_gas_price_units: int
    logs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HeldBlock:
    """A block that we hold as canonical; `timestamp` is Unix time."""

    number: int
    hash: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class Movement:
    """Value that a block moved to an address. `kind` is token, native or internal; no contract for native coin.

    `position` is the place within the transaction, which a reorg does not change: of a token's log among the
    transaction's logs, of an internal transfer among the transaction's successful calls that move value; 0 for the
    value that the transaction itself sends.
    """

    kind: str
    address: str
    contract: str
    transaction_hash: str
    position: int
    sender: str
    amount_units: int
    block_number: int
    block_hash: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What some blocks moved to the addresses asked for, as one endpoint shows it.

    `logs` is how many Transfer logs were looked through, `traced` whether internal transfers were read too.
    """

    movements: list[Movement]
    endpoint_id: UUID
    logs: int
    seconds: float
    traced: bool
