"""States of a withdrawal and what may follow what."""

from collections.abc import Mapping

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
