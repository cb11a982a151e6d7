"""States of a withdrawal and what may follow what."""

from collections.abc import Mapping
from uuid import UUID

from django.db import models


class WithdrawalState(models.TextChoices):
    """Where a withdrawal stands. Funds are held in every state before a final one."""

    REQUESTED = "requested", "Taken down, funds held"
    AWAITING_CONFIRMATION = "awaiting_confirmation", "Waits for the person's second factor"
    AWAITING_APPROVAL = "awaiting_approval", "Waits for two operators"
    APPROVED = "approved", "To be sent"
    SENDING = "sending", "With the signer"
    SENT = "sent", "On its way on chain"
    CONFIRMED = "confirmed", "Final on chain, and booked"
    FAILED = "failed", "Did not leave; the hold was released"
    CANCELLED = "cancelled", "Called off by the person; the hold was released"
    REJECTED = "rejected", "Refused by an operator; the hold was released"


S = WithdrawalState

FINAL = frozenset({S.CONFIRMED, S.FAILED, S.CANCELLED, S.REJECTED})
# Before anything was signed: the person may still call it off.
CANCELLABLE = frozenset({S.REQUESTED, S.AWAITING_CONFIRMATION, S.AWAITING_APPROVAL, S.APPROVED})

TRANSITIONS: Mapping[WithdrawalState, frozenset[WithdrawalState]] = {
    S.REQUESTED: frozenset(
        {S.AWAITING_CONFIRMATION, S.AWAITING_APPROVAL, S.APPROVED, S.CANCELLED, S.REJECTED}
    ),
    S.AWAITING_CONFIRMATION: frozenset({S.AWAITING_APPROVAL, S.APPROVED, S.CANCELLED, S.REJECTED}),
    S.AWAITING_APPROVAL: frozenset({S.APPROVED, S.CANCELLED, S.REJECTED}),
    S.APPROVED: frozenset({S.SENDING, S.CANCELLED, S.REJECTED, S.FAILED}),
    S.SENDING: frozenset({S.SENT, S.CONFIRMED, S.FAILED}),
    S.SENT: frozenset({S.CONFIRMED, S.FAILED}),
    S.CONFIRMED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
    S.REJECTED: frozenset(),
}

# The ends in which nothing left: the whole hold goes back.
RELEASING = frozenset({S.FAILED, S.CANCELLED, S.REJECTED})


class Reason(models.TextChoices):
    """Why a withdrawal ended as it did. Stable and machine-readable."""

    BY_OWNER = "by_owner", "Called off by the person"
    CONFIRMATION_FAILED = "confirmation_failed", "Too many wrong codes"
    BY_OPERATOR = "by_operator", "Refused by an operator"
    DESTINATION_IS_TOKEN = "destination_is_token", "The destination is a token contract"
    DESTINATION_IS_OURS = "destination_is_ours", "The destination is an address or contract of ours"
    TRANSFER_REFUSED = "transfer_refused", "The token or the destination refuses the transfer"
    TOO_MUCH_GAS = "too_much_gas", "The transfer would burn more gas than the rule allows"
    TRANSACTION_REFUSED = "transaction_refused", "The signer refused"
    TRANSACTION_REVERTED = "transaction_reverted", "The transfer reverted on chain"
    TRANSACTION_CANCELLED = "transaction_cancelled", "The transaction was given up before it was mined"
    MOVED_NOTHING = "moved_nothing", "The transaction succeeded and moved nothing"


class Wait(models.TextChoices):
    """Why an approved withdrawal is not sent yet."""

    PAUSED = "paused", "Withdrawals are paused"
    ACCOUNT_FROZEN = "account_frozen", "The account is frozen"
    NETWORK_HALTED = "network_halted", "The network is halted"
    AWAITING_COLLECTION = "awaiting_collection", "The units are being collected from deposit addresses"
    AWAITING_GAS = "awaiting_gas", "The hot wallet needs gas money"


# Wrong codes after which a withdrawal is called off.
CONFIRMATION_TRIES = 5
# Operators who must agree above the threshold.
APPROVALS_NEEDED = 2
PURPOSE = "withdrawal"


def hold_reference(withdrawal_id: UUID) -> str:
    return f"withdrawal:{withdrawal_id}:hold"


def release_reference(withdrawal_id: UUID) -> str:
    return f"withdrawal:{withdrawal_id}:release"


def settle_reference(withdrawal_id: UUID) -> str:
    return f"withdrawal:{withdrawal_id}:settle"


def transaction_reference(withdrawal_id: UUID) -> str:
    """The reference of the outbound transaction: one per withdrawal, ever."""
    return f"withdrawal:{withdrawal_id}"


def fee_charged(
    *, quoted_units: int, flat_units: int, gas_cost_units: int, numerator: int, denominator: int
) -> int:
    """The fee in base units of the asset: flat part and gas burnt (wei) at the quote's price, at most as quoted.

    Rounded down, which is the person's favour. `numerator / denominator` is units of the asset per wei.
    """
    gas_units = gas_cost_units * numerator // denominator if denominator else 0
    return min(quoted_units, flat_units + gas_units)
