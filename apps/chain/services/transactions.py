"""Intents: asking for a transaction, giving it up, digging it up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction as database

from apps.chain.domain import AttemptKind, TransactionState
from apps.chain.kinds import SEND_WORK, SIGN_WORK
from apps.chain.models import OutboundTransaction
from apps.chain.transitions import SIGN, Moves
from apps.core import doorbell, work
from apps.core.errors import Conflict, NotFound


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """What a transaction is to do: `value_units` is in wei; `notify` is rung when it is out and when it is over.

    `after_id` is a transaction of the same wallet that this one counts on: it gets the later nonce, and is cancelled
    when that one ends without any.
    """

    network_id: UUID
    wallet_id: UUID
    to: str
    data: str
    gas_limit: int
    purpose: str
    reference: str
    value_units: int = 0
    notify: str = ""
    after_id: UUID | None = None


def transaction_request(
    *,
    network_id: UUID,
    wallet_id: UUID,
    to: str,
    data: str,
    gas_limit: int,
    purpose: str,
    reference: str,
    value_units: int = 0,
    notify: str = "",
    after_id: UUID | None = None,
) -> OutboundTransaction:
    """Write down the intent, in the caller's database transaction; workers do the rest.

    `value_units` is in wei, `after_id` as in `Intent`. `reference` is unique: asking again with the same content
    returns the existing transaction, with other content raises `Conflict`. `notify` is a doorbell rung when it is out
    and when it is over.
    """
    intent = Intent(
        network_id=network_id,
        wallet_id=wallet_id,
        to=to,
        data=data,
        gas_limit=gas_limit,
        purpose=purpose,
        reference=reference,
        value_units=value_units,
        notify=notify,
        after_id=after_id,
    )
    return transactions_request(intents=[intent])[reference]


def transactions_request(*, intents: Sequence[Intent]) -> dict[str, OutboundTransaction]:
    """Like `transaction_request` for many at once, by reference: two statements whatever their number."""
    contents = {intent.reference: _content(intent) for intent in intents}
    wanted = {
        intent.reference: OutboundTransaction(
            reference=intent.reference, notify=intent.notify, **contents[intent.reference]
        )
        for intent in intents
    }
    # Inserted without looking first: two callers at once end with one row. In one order, so that they do not
    # wait for each other in a circle.
    OutboundTransaction.objects.bulk_create(
        [wanted[reference] for reference in sorted(wanted)], ignore_conflicts=True
    )
    found = {row.reference: row for row in OutboundTransaction.objects.filter(reference__in=list(wanted))}
    for reference, content in contents.items():
        row = found[reference]
        differing = [name for name, value in content.items() if getattr(row, name) != value]
        if differing:
            raise Conflict("reference_reused", f"Transaction {reference} exists with another {differing[0]}.")
    if any(found[reference].pk == wanted[reference].pk for reference in wanted):
        doorbell.ring(SIGN)
    return found


def _content(intent: Intent) -> dict[str, Any]:
    return {
        "network_id": intent.network_id,
        "wallet_id": intent.wallet_id,
        "to": intent.to.lower(),
        "data": (intent.data or "0x").lower(),
        "value_units": intent.value_units,
        "gas_limit": intent.gas_limit,
        "purpose": intent.purpose,
        "after_id": intent.after_id,
    }


def transaction_cancel(*, transaction_id: UUID) -> OutboundTransaction:
    """Give up an intent: at once when it has no nonce, else by outbidding it with a self-transfer.

    The self-transfer may lose the race; then the transaction ends confirmed or reverted. Raises `NotFound`, or
    `Conflict` when it is mined or final.
    """
    with database.atomic():
        row = OutboundTransaction.objects.select_for_update().filter(pk=transaction_id).first()
        if row is None:
            raise NotFound
        moves = Moves()
        if row.state == TransactionState.QUEUED and row.nonce is None:
            moves.move(
                row,
                TransactionState.CANCELLED,
                topic="transaction.cancelled",
                reason="given up before signing",
            )
        elif row.state in (TransactionState.SIGNED, TransactionState.SENT):
            moves.move(
                row,
                TransactionState.QUEUED,
                next_attempt=AttemptKind.CANCEL,
                reason="given up by an operator",
            )
        elif row.state == TransactionState.QUEUED:
            OutboundTransaction.objects.filter(pk=row.pk).update(next_attempt=AttemptKind.CANCEL)
        else:
            raise Conflict("transaction_not_open", f"The transaction is {row.state}.")
        moves.publish()
    return row


def transaction_retry(*, transaction_id: UUID) -> bool:
    """Dig up a buried transaction; True when there was something to dig up."""
    return any(work.retry(kind, ids=[transaction_id]) for kind in (SIGN_WORK, SEND_WORK))
