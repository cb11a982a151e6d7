"""How an outbound transaction changes state: by compare-and-swap, with its event, and the bells it rings."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction as database
from django.db.models import F

from apps.chain.domain import FINAL, TRANSITIONS, TransactionState
from apps.chain.models import NetworkWatch, OutboundTransaction
from apps.core import clock, doorbell
from apps.core.errors import Retryable
from apps.events.services import EventDraft, events_publish

SIGN, SEND, WATCH, RECHECK = "chain.sign", "chain.send", "chain.watch", "chain.recheck"
_NEXT_BELL = {TransactionState.QUEUED: SIGN, TransactionState.SIGNED: SEND}
# What those who asked for a transaction act on: it is out, or it is over. Who is told more often looks for nothing.
_TOLD = {TransactionState.SENT, *FINAL}
# Rings of one bell for one commit: several processes may work side by side, and three hundred transactions that become
# final at once do not leave three hundred rings.
_RINGS = 4


@dataclass
class Moves:
    """The changes of one database transaction. Events are published together: their heads are locked once."""

    drafts: list[EventDraft] = field(default_factory=list)
    bells: Counter[str] = field(default_factory=Counter)

    def move(
        self, row: OutboundTransaction, state: TransactionState, *, topic: str = "", **changes: Any
    ) -> OutboundTransaction:
        """Move `row` to `state`; raises `Retryable` when somebody else moved it first.

        The row must be locked by the caller. A move makes progress: attempts and burial are reset.
        """
        before = TransactionState(row.state)
        if state not in TRANSITIONS[before]:
            raise ValueError(f"a transaction does not go from {before} to {state}")
        return self._put(row, state, topic, changes)

    def reopen(self, row: OutboundTransaction, *, topic: str, **changes: Any) -> OutboundTransaction:
        """The one way out of a final state: a fork took its block, and it is on its way again (`rechecking`)."""
        return self._put(row, TransactionState.SENT, topic, {"finalized_at": None, **changes})

    def _put(
        self, row: OutboundTransaction, state: TransactionState, topic: str, changes: dict[str, Any]
    ) -> OutboundTransaction:
        before, now = row.state, clock.now()
        changes = {"attempts": 0, "buried_at": None, "last_error": "", "updated_at": now, **changes}
        if state in (TransactionState.QUEUED, TransactionState.SIGNED):
            changes.setdefault("run_after", now)
        if state in FINAL:
            changes["finalized_at"] = now
        moved = OutboundTransaction.objects.filter(pk=row.pk, state=before).update(state=state, **changes)
        if not moved:
            raise Retryable("the transaction moved on meanwhile")
        row.state = state
        for name, value in changes.items():
            setattr(row, name, value)
        if topic:
            self.drafts.append(draft(row, topic))
        if state in _TOLD:
            self.bells[row.notify] += 1
        self.bells[_NEXT_BELL.get(state, "")] += 1
        return row

    def publish(self) -> None:
        """Write the events and ring the bells. Call last, inside the same database transaction."""
        events_publish(self.drafts)
        for bell, count in self.bells.items():
            for _ in range(min(count, _RINGS)):
                doorbell.ring(bell)
        self.drafts, self.bells = [], Counter()


def draft(row: OutboundTransaction, topic: str) -> EventDraft:
    """A fact about a transaction; the subject is its wallet, so that one wallet's facts have one order."""
    return EventDraft(
        topic=topic,
        subject_type="wallet",
        subject_id=row.wallet_id,
        object_type="transaction",
        object_id=row.pk,
        payload={
            "network_id": str(row.network_id),
            "reference": row.reference,
            "purpose": row.purpose,
            "state": str(row.state),
            "nonce": row.nonce,
            "block_number": row.block_number,
            "reason": row.reason,
        },
    )


def watch_poke(network_id: Any) -> None:
    """Have the network looked at soon, once the current transaction has committed.

    After the commit on purpose: the watcher locks its own row before transactions, a sender the other way round.
    """

    def poke() -> None:
        NetworkWatch.objects.filter(network_id=network_id).update(run_after=clock.now(), pokes=F("pokes") + 1)
        doorbell.ring(WATCH)

    database.on_commit(poke, robust=True)
