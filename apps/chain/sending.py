"""From signed to sent: the stored bytes go out, and whatever is not a clear refusal counts as sent."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import F

from apps.chain import failover
from apps.chain.client import SendOutcome, send_outcome
from apps.chain.domain import OUT_OF_GAS, AttemptKind, TransactionState
from apps.chain.errors import EndpointFailure, NetworkHalted, RpcError, RpcUnavailable
from apps.chain.models import Network, OutboundTransaction, TransactionAttempt
from apps.chain.selectors import attempt_newest
from apps.chain.transitions import Moves, draft, watch_poke
from apps.core import clock
from apps.core.errors import Retryable
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.events.services import events_publish

logger = logging.getLogger(__name__)

OUT_OF_GAS_SECONDS = 15.0


@dataclass(frozen=True)
class Broadcast:
    """What became of a broadcast: the node's word, or None when no answer came back (in doubt)."""

    outcome: SendOutcome | None
    detail: str = ""


def broadcast(*, network_id: UUID, raw: bytes) -> Broadcast:
    """Send signed bytes to the first endpoint that answers. The same bytes to two endpoints do no harm.

    Raises `RpcUnavailable` only when it is certain that no endpoint received them, and `Retryable` when a node
    refuses in words that we do not know.
    """
    doubt, last = False, "no endpoint is usable"
    for row, endpoint in failover.usable(network_id):
        try:
            endpoint.request("eth_sendRawTransaction", ["0x" + raw.hex()])
        except EndpointFailure as error:
            failover.failure_record(row, error)
            doubt = doubt or error.in_doubt
            last = f"{row.name}: {error}"
            continue
        except RpcError as error:
            failover.success_record(row)
            outcome = send_outcome(error.message)
            if outcome is not None:
                return Broadcast(outcome, error.message)
            if doubt:
                return Broadcast(None, error.message)
            raise Retryable(f"the node refused: {error.message}") from None
        failover.success_record(row)
        return Broadcast(SendOutcome.ACCEPTED)
    if doubt:
        return Broadcast(None, last)
    raise RpcUnavailable(last)


def transaction_send(claim: Claim[OutboundTransaction]) -> None:
    """One step of `chain.send`: broadcast the newest attempt. A repetition sends the same bytes again."""
    row = OutboundTransaction.objects.select_related("network").get(pk=claim.ids[0])
    if row.network.halted_at is not None:
        raise NetworkHalted("the network is halted", after_seconds=30)
    if row.state != TransactionState.SIGNED:
        with claim.locked() as rows:
            claim.step([locked.pk for locked in rows])
        return
    attempt = attempt_newest(row)
    reach("chain.send.before_rpc")
    said = broadcast(network_id=row.network_id, raw=bytes(attempt.raw))
    reach("chain.send.after_rpc")
    if said.outcome == SendOutcome.NO_FUNDS:
        _out_of_gas(claim)
        return
    with claim.locked() as rows:
        for locked in rows:
            # A newer attempt than the one just sent stays due.
            if locked.state == TransactionState.SIGNED and attempt_newest(locked) == attempt:
                moves = Moves()
                _sent(locked, attempt, said, row.network, moves)
                moves.publish()
            claim.step([locked.pk])
        reach("chain.send.before_commit")
    reach("chain.send.after_commit")


def _out_of_gas(claim: Claim[OutboundTransaction]) -> None:
    """Told once, and waited for as long as it takes: it is the wallet that lacks something, not this row.

    All later nonces of the wallet wait with it.
    """
    with claim.locked() as rows:
        for row in rows:
            if row.state == TransactionState.SIGNED and row.reason != OUT_OF_GAS:
                OutboundTransaction.objects.filter(pk=row.pk).update(reason=OUT_OF_GAS)
                row.reason = OUT_OF_GAS
                events_publish([draft(row, "wallet.out_of_gas")])
                logger.error("wallet out of gas", extra={"wallet": row.wallet_id, "reference": row.reference})
        claim.wait(claim.ids, seconds=OUT_OF_GAS_SECONDS)


def _sent(
    row: OutboundTransaction, attempt: TransactionAttempt, said: Broadcast, network: Network, moves: Moves
) -> None:
    cancelling = attempt.kind == AttemptKind.CANCEL
    if said.outcome == SendOutcome.REFUSED and not cancelling:
        # These bytes can never be mined, but later nonces wait for this one: free it by a self-transfer.
        moves.move(row, TransactionState.QUEUED, next_attempt=AttemptKind.CANCEL, reason=said.detail[:300])
        return
    if said.outcome == SendOutcome.UNDERPRICED:
        pause = timedelta(seconds=network.block_time_seconds)
        moves.move(row, TransactionState.QUEUED, run_after=clock.now() + pause, reason=said.detail[:300])
        return
    _broadcast_count([attempt.pk], network.watched_block)
    # Accepted, known, in doubt, or "nonce too low": in each case the receipts will tell.
    moves.move(row, TransactionState.SENT, topic="transaction.sent", reason=said.detail[:300])
    watch_poke(network.id)


def _broadcast_count(attempt_ids: Sequence[UUID], height: int | None) -> None:
    TransactionAttempt.objects.filter(pk__in=attempt_ids).update(
        broadcasts=F("broadcasts") + 1, sent_at=clock.now(), sent_block=height
    )


def attempts_rebroadcast(*, attempt_ids: Sequence[UUID]) -> int:
    """Send the stored bytes of attempts that a node forgot; returns how many a node took (or knew).

    Changes no state: what becomes of them is read from receipts.
    """
    taken = 0
    for attempt in TransactionAttempt.objects.filter(pk__in=attempt_ids).order_by("nonce", "number"):
        reach("chain.rebroadcast.before_rpc")
        try:
            said = broadcast(network_id=attempt.network_id, raw=bytes(attempt.raw))
        except Retryable as error:
            logger.info("rebroadcast failed", extra={"hash": attempt.hash, "error": str(error)})
            continue
        reach("chain.rebroadcast.after_rpc")
        if said.outcome in (SendOutcome.ACCEPTED, SendOutcome.KNOWN):
            taken += 1
            TransactionAttempt.objects.filter(pk=attempt.pk).update(
                broadcasts=F("broadcasts") + 1, sent_at=clock.now()
            )
    return taken
