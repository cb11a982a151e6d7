"""After a fork that took back what was final: where is each transaction now, and did the same happen?

An operator who resumes a network decides that the chain shown now is the one that stays. Then each final transaction
of the blocks that were let go is looked for, by the receipts of every attempt at its nonce, in the headers held anew:

* in a final block with the same end: its place and its gas are written down anew;
* with another end, or nowhere once that height is final again: it is put back to sent, and the watcher deals with it
  as with any other (the same bytes again, outbid when stuck), until it is final. Putting back one that is there after
  all does no harm: its receipt is found on the next look.

When gas cost something else than before, it is to be booked again (`treasury.gas_book` books the difference). When
what was booked moved something else than what happened now, an operator has to decide: state `decide`.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from uuid import UUID

from apps.chain import observing, sending
from apps.chain.domain import AttemptKind, Receipt, TransactionState
from apps.chain.models import Network, OutboundTransaction, Recheck, RecheckState, TransactionAttempt
from apps.chain.selectors import attempt_newest
from apps.chain.services import receipts_read
from apps.chain.services.rechecks import recheck_draft, transaction_record
from apps.chain.transitions import Moves, watch_poke
from apps.chain.watching import transaction_unmine
from apps.core import clock
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.events.services import events_publish

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
S = TransactionState
_Seen = Mapping[UUID, Sequence[tuple[TransactionAttempt, Receipt]]]


def transactions_recheck(claim: Claim[Recheck]) -> None:
    """One step of `chain.recheck` for a chunk."""
    rows = Recheck.objects.select_related("network", "transaction").filter(pk__any_of=claim.ids)
    for network, of_network in groupby(rows.order_by("network_id", "pk"), key=lambda row: row.network):
        _recheck(claim, network, list(of_network))


def _recheck(claim: Claim[Recheck], network: Network, rows: Sequence[Recheck]) -> None:
    ids = [row.pk for row in rows]
    seen: _Seen = {}
    reach("chain.recheck.before_rpc")
    if network.halted_at is None and network.final_block is not None:
        seen = _receipts(network, [row.transaction_id for row in rows if row.transaction.is_final])
    reach("chain.recheck.after_rpc")
    again: list[UUID] = []
    with claim.locked(ids) as locked:
        fresh = Network.objects.select_for_update(no_key=True).get(pk=network.pk)
        sent = {
            row.pk: row
            for row in OutboundTransaction.objects.select_for_update(of=("self",))
            .select_related("wallet", "attempt")
            .filter(pk__in=[row.transaction_id for row in locked])
            .order_by("pk")
        }
        moves = Moves()
        closed = []
        for row in locked:
            row.transaction = sent[row.transaction_id]
            if fresh.halted_at is None and _step(fresh, row, seen.get(row.transaction_id), moves, again):
                closed.append(row)
        moves.publish()
        events_publish([recheck_draft(row, _TOPICS[RecheckState(row.state)]) for row in closed])
        claim.step([row.pk for row in closed])
        claim.wait([row.pk for row in locked if row not in closed], seconds=POLL_SECONDS)
        if again:
            watch_poke(network.pk)
        reach("chain.recheck.before_commit")
    reach("chain.recheck.after_commit")
    if again:
        # Should this be lost, the watcher finds that the node does not know them.
        sending.attempts_rebroadcast(attempt_ids=again)


_TOPICS = {RecheckState.CLOSED: "transaction.rechecked", RecheckState.DECIDE: "transaction.changed"}


def _receipts(network: Network, transaction_ids: Sequence[UUID]) -> _Seen:
    """What one endpoint says of every attempt at each transaction's present nonce; a missing one is unknown."""
    made = [
        row
        for row in TransactionAttempt.objects.select_related("transaction")
        .filter(transaction_id__in=transaction_ids)
        .defer("raw")
        if row.nonce == row.transaction.nonce
    ]
    shown = receipts_read(network_id=network.pk, hashes=[row.hash for row in made])
    seen: dict[UUID, list[tuple[TransactionAttempt, Receipt]]] = defaultdict(list)
    for one in transaction_ids:
        seen[one] = []
    for row in made:
        if row.hash in shown:
            seen[row.transaction_id].append((row, shown[row.hash]))
    return seen


def _step(
    network: Network,
    row: Recheck,
    seen: Sequence[tuple[TransactionAttempt, Receipt]] | None,
    moves: Moves,
    again: list[UUID],
) -> bool:
    """Whether the row's question is answered."""
    sent = row.transaction
    if not sent.is_final:
        return False
    if row.reopened_at is not None:
        return _conclude(row)
    if seen is None or network.final_block is None:
        return False
    held = observing.held_hashes(network.pk, [got.block_number for _, got in seen])
    there = [(made, got) for made, got in seen if held.get(got.block_number) == got.block_hash]
    if not there:
        # A receipt in a block that we do not hold says that our headers are behind, or the endpoint is.
        if not seen and network.final_block >= row.before["block_number"]:
            _reopen(network, row, moves, again)
        return False
    made, got = there[0]
    if got.block_number > network.final_block:
        return False
    if _end(made, got) != sent.state:
        _reopen(network, row, moves, again)
        return False
    sent.attempt, sent.block_number, sent.block_hash = made, got.block_number, got.block_hash
    sent.gas_used, sent.effective_gas_price_units = got.gas_used, got.effective_gas_price_units
    sent.succeeded, sent.logs = got.status, got.logs
    sent.save(
        update_fields=[
            "attempt", "block_number", "block_hash", "gas_used", "effective_gas_price_units", "succeeded", "logs",
        ]
    )  # fmt: skip
    return _conclude(row)


def _end(made: TransactionAttempt, got: Receipt) -> TransactionState:
    if made.kind == AttemptKind.CANCEL:
        return S.CANCELLED
    return S.CONFIRMED if got.status else S.REVERTED


def _reopen(network: Network, row: Recheck, moves: Moves, again: list[UUID]) -> None:
    sent = row.transaction
    newest = attempt_newest(sent)
    again.extend({sent.attempt_id or newest.pk, newest.pk})
    TransactionAttempt.objects.filter(pk=newest.pk).update(sent_block=network.watched_block)
    transaction_unmine(sent, moves)
    Recheck.objects.filter(pk=row.pk).update(reopened_at=clock.now())


def _conclude(row: Recheck) -> bool:
    """It is final again: compare with what was booked, and leave the difference to whom it concerns."""
    sent = row.transaction
    row.after = transaction_record(sent)
    same = all(row.before[name] == row.after[name] for name in ("state", "moves"))
    # What nobody has booked yet is booked as it is now.
    changed = not same and sent.booked_at is not None
    row.state = RecheckState.DECIDE if changed else RecheckState.CLOSED
    row.closed_at = None if changed else clock.now()
    row.save(update_fields=["state", "after", "closed_at"])
    if row.before["gas_cost_units"] != row.after["gas_cost_units"]:
        OutboundTransaction.objects.filter(pk=sent.pk).update(gas_booked_at=None)
    if changed:
        logger.error(
            "what was booked did not happen", extra={"reference": sent.reference, "recheck": str(row.pk)}
        )
    return True
