"""What a deposit is and how it may change: pure values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import models


class DepositKind(models.TextChoices):
    """How value reached a deposit address. Part of a deposit's identity."""

    TOKEN = "token", "ERC-20 transfer"
    NATIVE = "native", "Native coin, sent by the transaction itself"
    INTERNAL = "internal", "Native coin, sent by a contract"


class DepositState(models.TextChoices):
    """Where a deposit stands. `TRANSITIONS` says what may follow what."""

    SEEN = "seen", "In a block"
    CONFIRMING = "confirming", "Checked, waiting for depth"
    CREDITED = "credited", "In the person's balance"
    ORPHANED = "orphaned", "Its block was taken back before the credit"
    REVERSED = "reversed", "Its block was taken back after the credit, and so was the credit"
    FROZEN = "frozen", "Taken back by the chain when it was spent already"
    IGNORED = "ignored", "Below the minimum until more arrives"
    UNSUPPORTED = "unsupported", "Not credited by itself: an operator decides"


S = DepositState

TRANSITIONS: Mapping[DepositState, frozenset[DepositState]] = {
    S.SEEN: frozenset({S.CONFIRMING, S.ORPHANED, S.UNSUPPORTED}),
    # Back to seen: its header is no longer held, and what was found out about it was not deep enough to stand alone.
    S.CONFIRMING: frozenset({S.CREDITED, S.IGNORED, S.ORPHANED, S.UNSUPPORTED, S.SEEN}),
    S.IGNORED: frozenset({S.CREDITED, S.ORPHANED}),
    S.UNSUPPORTED: frozenset({S.CREDITED, S.SEEN, S.ORPHANED}),
    # A credit that the chain takes back is reversed, or frozen when nothing is left to take it from.
    S.CREDITED: frozenset({S.REVERSED, S.FROZEN}),
    # Included again, elsewhere: seen anew, and credited once more at most.
    S.ORPHANED: frozenset({S.SEEN}),
    S.REVERSED: frozenset({S.SEEN}),
    # Reversed: the debt was paid or written off.
    S.FROZEN: frozenset({S.SEEN, S.REVERSED}),
}

# Not on the chain as we know it: may be included again.
GONE = frozenset({S.ORPHANED, S.REVERSED, S.FROZEN})

# In a block that may still be taken back, and not in anybody's balance.
UNCREDITED = frozenset({S.SEEN, S.CONFIRMING, S.IGNORED, S.UNSUPPORTED})


CREDIT_KIND = "deposit"
REVERSAL_KIND = "deposit_reversal"
WRITE_OFF_KIND = "debt_write_off"
# Who is frozen for this reason is freed again when nothing is owed any more; who is frozen for another one is not.
FREEZE_REASON = "The chain took back a deposit that was spent already."


def credit_reference(deposit_id: UUID, sighting: int) -> str:
    """The journal of a sighting's credit: what makes crediting it twice impossible."""
    return f"deposit:{deposit_id}:credit:{sighting}"


def reversal_reference(deposit_id: UUID, sighting: int) -> str:
    """The journal that takes a sighting's credit back."""
    return f"deposit:{deposit_id}:reverse:{sighting}"


class UnsupportedReason(models.TextChoices):
    """Why a deposit waits for an operator."""

    TOKEN_NOT_ALLOWED = "token_not_allowed", "The token is not on the allow-list"
    TRANSACTION_FAILED = "transaction_failed", "Its transaction failed and moved nothing"
    BALANCE_MISMATCH = "balance_mismatch", "The balance did not change by what the token announced"
    DEPOSITS_DISABLED = "deposits_disabled", "Deposits of this asset are switched off"
    BEFORE_OPENED = "before_opened", "It came before the address was opened: whose it is, no block says"


class SweepState(models.TextChoices):
    """Where the collection of one address stands."""

    PLANNED = "planned", "To be funded or sent"
    FUNDING = "funding", "Gas is on its way to the address"
    SWEEPING = "sweeping", "The transfer is on its way"
    DONE = "done", "In the collecting wallet, and booked"
    FAILED = "failed", "Did not move anything; a later sweep tries again"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One movement of value to one of our addresses, as a block shows it. `contract` is empty for native coin."""

    address: str
    kind: DepositKind
    contract: str
    transaction_hash: str
    position: int
    sender: str
    amount_units: int
    block_number: int
    block_hash: str
    block_time: datetime | None = None
