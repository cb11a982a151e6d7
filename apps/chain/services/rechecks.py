"""What a fork may have taken back although it was final: written down to be looked for, and settled by hand."""

from typing import Any
from uuid import UUID

from django.db import transaction as database
from django.db.models import F
from django.db.models.functions import Least

from apps.chain.domain import FINAL
from apps.chain.models import OutboundTransaction, Recheck, RecheckState
from apps.chain.selectors import transaction_hash, transaction_moves
from apps.chain.transitions import RECHECK
from apps.core import clock, doorbell
from apps.core.errors import Conflict, DomainError, NotFound
from apps.events.services import EventDraft, events_publish


def transaction_record(row: OutboundTransaction) -> dict[str, Any]:
    """What the chain said of a mined transaction, as JSON; units are decimal strings. `row` has wallet and attempt."""
    return {
        "state": str(row.state),
        "hash": transaction_hash(row),
        "block_number": row.block_number,
        "block_hash": row.block_hash,
        "gas_cost_units": str(row.gas_cost_units),
        "moves": sorted(
            [move.token or "", move.sender, move.receiver, str(move.units)] for move in transaction_moves(row)
        ),
    }


def rechecks_open(*, network_id: UUID, from_block: int) -> list[OutboundTransaction]:
    """Have every final transaction of the blocks from `from_block` on looked for, in the caller's transaction.

    One that is looked for already keeps what was booked of it then.
    """
    rows = list(
        OutboundTransaction.objects.select_related("wallet", "attempt")
        .filter(network_id=network_id, state__in=FINAL, block_number__gte=from_block)
        .order_by("block_number", "pk")
    )
    known = Recheck.objects.filter(network_id=network_id, state=RecheckState.OPEN)
    known.update(from_block=Least(F("from_block"), from_block), reopened_at=None, run_after=clock.now())
    Recheck.objects.bulk_create(
        [
            Recheck(
                network_id=network_id,
                transaction=row,
                from_block=from_block,
                before=transaction_record(row),
            )
            for row in rows
        ],
        ignore_conflicts=True,
    )
    doorbell.ring(RECHECK)
    return rows


def recheck_settle(*, recheck_id: UUID, actor: str, note: str) -> None:
    """An operator has put the books right by hand where the chain now says otherwise. Raises `Conflict`."""
    if not actor.strip() or not note.strip():
        raise DomainError("reason_missing", "Say who does this and why.", pointer="/note")
    with database.atomic():
        row = (
            Recheck.objects.select_for_update(of=("self",))
            .select_related("transaction")
            .filter(pk=recheck_id)
            .first()
        )
        if row is None:
            raise NotFound
        if row.state != RecheckState.DECIDE:
            raise Conflict("nothing_to_decide", "Nothing waits for a decision here.")
        Recheck.objects.filter(pk=row.pk).update(
            state=RecheckState.CLOSED, closed_at=clock.now(), closed_by=actor[:120], note=note[:300]
        )
        events_publish([recheck_draft(row, "transaction.settled_by_hand", actor=actor, note=note)])


def recheck_draft(row: Recheck, topic: str, **facts: Any) -> EventDraft:
    """A fact about a transaction that was looked for; `row` has its transaction."""
    sent = row.transaction
    payload = {"reference": sent.reference, "purpose": sent.purpose, "before": row.before, "after": row.after}
    return EventDraft(topic, "wallet", sent.wallet_id, {**payload, **facts}, "transaction", sent.pk)
