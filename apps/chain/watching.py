"""What an observation means for our transactions, applied in one database transaction.

Mined, when the receipt's block is on the chain that we hold. Final, when enough held headers stand on it and no
endpoint disputes it. Back to sent, when a reorg takes its block away. (design.md, "Nonces" and "Reorgs".)
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import BigIntegerField, F, Max, Value
from django.db.models.functions import Greatest, Least

from apps.chain import observing, sending
from apps.chain.domain import FINAL, OUTSTANDING, AttemptKind, Receipt, TransactionState, depth
from apps.chain.models import (
    Block,
    Network,
    NetworkWatch,
    OutboundTransaction,
    TransactionAttempt,
)
from apps.chain.observing import Observation
from apps.chain.selectors import attempt_newest
from apps.chain.transitions import WATCH, Moves
from apps.core import clock, doorbell
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.events.services import EventDraft, events_publish

logger = logging.getLogger(__name__)

KEEP_BLOCKS = 2_000
MAX_SUPERSESSIONS = 3
S = TransactionState


@dataclass
class Outcome:
    """What one look at a network led to. `rebroadcast` are attempts to send again, after the commit.

    `more` to look again at once; `waiting` when somebody waits for what the next block brings.
    """

    more: bool = False
    waiting: bool = False
    rebroadcast: list[UUID] = field(default_factory=list)


def network_watch(claim: Claim[NetworkWatch]) -> None:
    """One step of `chain.watch`: observe, apply if nothing moved meanwhile, rebroadcast what was forgotten."""
    watch = NetworkWatch.objects.select_related("network").get(pk=claim.ids[0])
    network = watch.network
    if network.halted_at is not None:
        with claim.locked():
            claim.wait(claim.ids, seconds=30)
        return
    reach("chain.watch.before_rpc")
    seen = observing.observe(network)
    reach("chain.watch.after_rpc")
    with claim.locked() as rows:
        if not rows:
            return
        outcome = _apply(network, seen)
        if outcome.more or rows[0].pokes != watch.pokes:
            claim.wait(claim.ids, seconds=0)
        elif outcome.waiting:
            # Sooner than the tick would see it: a buy is over once its block is deep enough.
            pause = max(0.25, network.block_time_seconds / 4)
            claim.wait(claim.ids, seconds=pause)
            doorbell.ring(WATCH, after_seconds=pause)
        else:
            claim.wait(claim.ids, seconds=max(0.5, network.block_time_seconds / 2))
        reach("chain.watch.before_commit")
    reach("chain.watch.after_commit")
    if outcome.rebroadcast:
        sending.attempts_rebroadcast(attempt_ids=outcome.rebroadcast)


def _apply(network: Network, seen: Observation) -> Outcome:
    fresh = Network.objects.select_for_update(no_key=True).get(pk=network.pk)
    if fresh.halted_at is not None or fresh.watched_hash != network.watched_hash:
        return Outcome(more=fresh.halted_at is None)
    rows = list(
        OutboundTransaction.objects.select_for_update(of=("self",))
        .filter(pk__in=[row.pk for row in observing.open_transactions(fresh.pk)])
        .order_by("pk")
    )
    moves, outcome = Moves(), Outcome(more=seen.more, waiting=bool(rows))
    if seen.ancestor is not None:
        if not _reorg(fresh, seen.ancestor, rows, moves, outcome):
            return Outcome()
        outcome.more = True
    elif seen.tip is not None:
        _headers_keep(fresh, seen)
        _mined(fresh, seen, rows, moves)
        _final(fresh, seen, rows, moves)
        _foreign(fresh, seen, rows, moves)
        _stuck(fresh, seen, rows, moves, outcome)
    moves.publish()
    return outcome


def network_halt(*, network: Network, reason: str) -> None:
    """Stop signing, sending and concluding on a network until an operator resumes it."""
    changed = Network.objects.filter(pk=network.pk, halted_at__isnull=True).update(
        halted_at=clock.now(), halted_reason=reason[:300]
    )
    if changed:
        logger.error("network halted", extra={"network": network.name, "reason": reason})
        events_publish(
            [
                EventDraft(
                    topic="network.halted",
                    subject_type="network",
                    subject_id=network.pk,
                    payload={"reason": reason},
                )
            ]
        )


def _reorg(
    network: Network, ancestor: int, rows: Iterable[OutboundTransaction], moves: Moves, outcome: Outcome
) -> bool:
    """Go back to the fork; False when something final stood above it and the network was halted instead."""
    final = OutboundTransaction.objects.filter(network=network, block_number__gt=ancestor, state__in=FINAL)
    deep = list(final.order_by("block_number").values_list("reference", flat=True)[:5])
    depth_lost = (network.watched_block or 0) - ancestor
    if deep or ancestor < 0 or depth_lost > network.reorg_limit:
        what = f"final transactions: {', '.join(deep)}" if deep else f"{depth_lost} blocks"
        if ancestor < 0:
            what = "every block that we hold"
        network_halt(network=network, reason=f"reorg below block {ancestor + 1} takes back {what}")
        return False
    gone = Block.objects.filter(network=network, number__gt=ancestor, orphaned_at__isnull=True)
    count = gone.update(orphaned_at=clock.now())
    last = Block.objects.get(network=network, number=ancestor, orphaned_at__isnull=True)
    Network.objects.filter(pk=network.pk).update(
        watched_block=last.number, watched_hash=last.hash, final_block=Least("final_block", last.number)
    )
    logger.warning("reorg", extra={"network": network.name, "ancestor": ancestor, "blocks": count})
    for row in rows:
        if row.state == S.MINED and (row.block_number or 0) > ancestor:
            _unmine(row, moves, outcome, ancestor)
        elif row.state == S.SUPERSEDED and (row.foreign_block or 0) > ancestor:
            foreign_forget(row, moves)
    return True


def _unmine(row: OutboundTransaction, moves: Moves, outcome: Outcome, ancestor: int) -> None:
    newest = attempt_newest(row)
    outcome.rebroadcast.extend({row.attempt_id or newest.pk, newest.pk})
    TransactionAttempt.objects.filter(pk=newest.pk).update(sent_block=ancestor)
    transaction_unmine(row, moves)


def transaction_unmine(row: OutboundTransaction, moves: Moves) -> None:
    """Back to sent: its block is not on the chain (any more). What the receipt said is forgotten."""
    forgotten: dict[str, Any] = {
        "attempt": None,
        "block_number": None,
        "block_hash": "",
        "succeeded": None,
        "gas_used": None,
        "effective_gas_price_units": None,
        "logs": [],
        "reason": "reorged out",
    }
    if row.is_final:
        moves.reopen(row, topic="transaction.reorged", **forgotten)
    else:
        moves.move(row, S.SENT, topic="transaction.reorged", **forgotten)


def foreign_forget(row: OutboundTransaction, moves: Moves) -> None:
    """Back to sent: the transaction that took its nonce is not on the chain (any more)."""
    moves.move(
        row,
        S.SENT,
        foreign_block=None,
        foreign_hash="",
        reason="the foreign transaction was reorged out",
    )


def _headers_keep(network: Network, seen: Observation) -> None:
    if seen.tip is None:
        return
    Block.objects.bulk_create(
        [
            Block(
                network=network,
                number=shown.number,
                hash=shown.hash,
                parent_hash=shown.parent_hash,
                timestamp=shown.timestamp,
            )
            for shown in seen.headers
        ],
        # A block that was orphaned may come back.
        update_conflicts=True,
        unique_fields=["network", "hash"],
        update_fields=["orphaned_at"],
    )
    # Nothing that was final becomes less so when an endpoint is slow to say `finalized`.
    Network.objects.filter(pk=network.pk).update(
        watched_block=seen.tip.number,
        watched_hash=seen.tip.hash,
        watched_at=clock.now(),
        final_block=Greatest("final_block", Value(seen.final, BigIntegerField())),
    )
    if any(shown.number % 100 == 0 for shown in seen.headers):
        oldest = seen.tip.number - KEEP_BLOCKS
        if network.keep_from_block is not None:
            oldest = min(oldest, network.keep_from_block)
        Block.objects.filter(network=network, number__lt=oldest).delete()


def _on_chain(network: Network, got: Receipt) -> bool:
    return observing.held_hash(network.pk, got.block_number) == got.block_hash


def _mined(network: Network, seen: Observation, rows: Iterable[OutboundTransaction], moves: Moves) -> None:
    by_hash = {
        made.hash: made
        for made in TransactionAttempt.objects.filter(hash__in=list(seen.receipts)).defer("raw")
    }
    open_rows = {row.pk: row for row in rows if row.state != S.MINED}
    for made in by_hash.values():
        row, got = open_rows.get(made.transaction_id), seen.receipts[made.hash]
        if row is None or row.nonce != made.nonce or not _on_chain(network, got):
            continue
        moves.move(
            row,
            S.MINED,
            topic="transaction.mined",
            attempt=made,
            block_number=got.block_number,
            block_hash=got.block_hash,
            succeeded=got.status,
            gas_used=got.gas_used,
            effective_gas_price_units=got.effective_gas_price_units,
            logs=got.logs,
            foreign_block=None,
            foreign_hash="",
        )


def _final(network: Network, seen: Observation, rows: Iterable[OutboundTransaction], moves: Moves) -> None:
    """Finality needs depth in held headers, a receipt seen again just now, and nobody who disputes the block."""
    if seen.tip is None:
        return
    for row in rows:
        if row.state != S.MINED or row.attempt is None or row.block_number is None:
            continue
        got = seen.receipts.get(row.attempt.hash)
        if (
            depth(tip=seen.tip.number, number=row.block_number) < network.confirmations
            or got is None
            or got.block_hash != row.block_hash
            or row.block_number in seen.disputed
            or not _on_chain(network, got)
        ):
            continue
        if row.attempt.kind == AttemptKind.CANCEL:
            moves.move(
                row,
                S.CANCELLED,
                topic="transaction.cancelled",
                reason=row.reason or "replaced by a self-transfer",
            )
        elif got.status:
            moves.move(row, S.CONFIRMED, topic="transaction.confirmed", reason="")
        else:
            moves.move(row, S.REVERTED, topic="transaction.reverted", reason="reverted on chain")


def _foreign(network: Network, seen: Observation, rows: Iterable[OutboundTransaction], moves: Moves) -> None:
    if seen.tip is None:
        return
    for row in rows:
        found = seen.foreign.get(row.pk)
        if found is not None and row.state in (S.QUEUED, S.SIGNED, S.SENT):
            moves.move(
                row,
                S.SUPERSEDED,
                topic="transaction.superseded",
                foreign_block=found.block_number,
                foreign_hash=found.hash,
                reason="a foreign transaction took the nonce",
            )
        if (
            row.state == S.SUPERSEDED
            and row.foreign_block is not None
            and depth(tip=seen.tip.number, number=row.foreign_block) >= network.confirmations
        ):
            _requeue(row, moves)


def _requeue(row: OutboundTransaction, moves: Moves) -> None:
    """The old nonce is final in another transaction: only now may the intent have a new one."""
    if row.supersessions + 1 >= MAX_SUPERSESSIONS:
        moves.move(
            row, S.FAILED, topic="transaction.failed", reason="foreign transactions keep taking the nonce"
        )
        return
    moves.move(
        row,
        S.QUEUED,
        nonce=None,
        next_attempt=AttemptKind.ORIGINAL,
        supersessions=F("supersessions") + 1,
        foreign_block=None,
        foreign_hash="",
        reason="",
    )


def _stuck(
    network: Network,
    seen: Observation,
    rows: Iterable[OutboundTransaction],
    moves: Moves,
    outcome: Outcome,
) -> None:
    """Rebroadcast what the node forgot; outbid the lowest nonce of a wallet when blocks pass it by.

    Higher nonces wait for the lowest, so that raising their fees would buy nothing.
    """
    if seen.tip is None:
        return
    open_rows = sorted(
        (row for row in rows if row.state in OUTSTANDING), key=lambda row: (row.wallet_id, row.nonce or 0)
    )
    newest = {
        made.transaction_id: made
        for made in TransactionAttempt.objects.filter(
            transaction__in=open_rows, nonce=F("transaction__nonce")
        )
        .order_by("number")
        .defer("raw")
    }
    missing, wallets = set(seen.missing), set()
    # A node that mines on demand shows no new block while it knows of no transaction.
    patience = clock.now() - timedelta(seconds=network.block_time_seconds)
    for row in open_rows:
        lowest = row.wallet_id not in wallets
        wallets.add(row.wallet_id)
        made = newest.get(row.pk)
        if row.state != S.SENT or row.pk in seen.used or made is None:
            continue
        if made.sent_block is None:
            TransactionAttempt.objects.filter(pk=made.pk).update(sent_block=seen.tip.number)
            continue
        waited = seen.tip.number - max(made.sent_block, _turn_since(row) if lowest else 0)
        if lowest and waited >= network.stuck_after_blocks:
            moves.move(row, S.QUEUED, reason=f"stuck for {waited} blocks")
        elif made.pk in missing and (seen.headers or made.sent_at is None or made.sent_at <= patience):
            outcome.rebroadcast.append(made.pk)


def _turn_since(row: OutboundTransaction) -> int:
    """The block that took the wallet's previous nonce: only since then could this one be mined."""
    mined = OutboundTransaction.objects.filter(
        network_id=row.network_id, wallet_id=row.wallet_id, nonce__lt=row.nonce or 0
    )
    highest: int | None = mined.aggregate(highest=Max("block_number"))["highest"]
    return highest or 0
