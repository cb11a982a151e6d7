"""From queued to signed: a nonce under the wallet's lock, the signature, and its bytes in one commit."""

from uuid import UUID

from django.db import transaction as database
from django.db.models import F

from apps.chain import failover, market, signer
from apps.chain.client import quantity
from apps.chain.domain import (
    CANCEL_CAP_FACTOR,
    AttemptKind,
    Fees,
    TransactionState,
    fees_cancel,
    fees_replacement,
)
from apps.chain.errors import NetworkHalted, RpcError, RpcUnavailable, SignerRefused
from apps.chain.gates import gate_reason
from apps.chain.models import (
    Network,
    OutboundTransaction,
    TransactionAttempt,
    Wallet,
    WalletNonce,
)
from apps.chain.selectors import attempt_newest
from apps.chain.transitions import Moves, watch_poke
from apps.core.errors import Retryable
from apps.core.failpoints import reach
from apps.core.work import Claim

# How long what a gate holds back rests before it is asked again.
GATE_SECONDS = 5.0
# The same for what waits for another transaction's nonce: both are mostly signed in one go.
AFTER_SECONDS = 0.5


def transaction_sign(claim: Claim[OutboundTransaction]) -> None:
    """One step of `chain.sign`. What needs the network is read before the locks are taken."""
    row = OutboundTransaction.objects.select_related("network", "wallet").get(pk=claim.ids[0])
    network, wallet = row.network, row.wallet
    if row.state != TransactionState.QUEUED:
        with claim.locked() as rows:
            claim.step([locked.pk for locked in rows])
        return
    if network.halted_at is not None:
        raise NetworkHalted("the network is halted", after_seconds=30)
    if network.watched_block is None:
        # Without a header chain nobody could tell what becomes of the transaction.
        watch_poke(network.id)
        raise Retryable("the network is not watched yet", after_seconds=1)
    original = row.next_attempt == AttemptKind.ORIGINAL
    fees = market.fees_market(network) if original else market.fees_bid(network)
    if original:
        nonce_open(network=network, wallet=wallet)
    reach("chain.sign.before_lock")
    with claim.locked() as rows:
        for locked in rows:
            if locked.state == TransactionState.QUEUED:
                moves = Moves()
                # Only before the first signature: a replacement undoes nothing that is not out already.
                if locked.next_attempt == AttemptKind.ORIGINAL:
                    if waits := _waits_seconds(locked):
                        claim.wait([locked.pk], seconds=waits)
                        continue
                    _abandon(locked, moves)
                if locked.state == TransactionState.QUEUED:
                    _sign_locked(locked, network, wallet, fees, moves)
                moves.publish()
            claim.step([locked.pk])
        reach("chain.sign.before_commit")
    reach("chain.sign.after_commit")


def _waits_seconds(row: OutboundTransaction) -> float:
    """How long the first signature waits, for an open gate or for the transaction that comes before; else 0."""
    closed = gate_reason(row)
    if closed:
        OutboundTransaction.objects.filter(pk=row.pk).update(reason=closed[:300])
        return GATE_SECONDS
    before = row.after
    return AFTER_SECONDS if before is not None and before.nonce is None and not before.is_final else 0.0


def _abandon(row: OutboundTransaction, moves: Moves) -> None:
    """Cancel what counts on a transaction that ended without a nonce: it will never be made."""
    if row.after is not None and row.after.nonce is None:
        reason = f"what it counts on was not made: {row.after.reason}"[:300]
        moves.move(row, TransactionState.CANCELLED, topic="transaction.cancelled", reason=reason)


def nonce_open(*, network: Network, wallet: Wallet) -> None:
    """Begin with the chain's pending count, once. Two processes may ask; the first to insert decides."""
    if WalletNonce.objects.filter(network=network, wallet=wallet).exists():
        return
    try:
        first = failover.ask(
            network.id,
            lambda endpoint: quantity(
                endpoint.request("eth_getTransactionCount", [wallet.address, "pending"])
            ),
        )
    except RpcError as error:
        raise RpcUnavailable(str(error)) from None
    WalletNonce.objects.bulk_create(
        [WalletNonce(network=network, wallet=wallet, first_nonce=first, next_nonce=first)],
        ignore_conflicts=True,
    )


def nonce_take(*, network_id: UUID, wallet_id: UUID) -> int:
    """The next nonce, under the allocator's row lock until the caller's transaction ends.

    A rollback gives it back, so that no nonce is ever skipped.
    """
    allocator = WalletNonce.objects.select_for_update().get(network_id=network_id, wallet_id=wallet_id)
    WalletNonce.objects.filter(pk=allocator.pk).update(next_nonce=F("next_nonce") + 1)
    return allocator.next_nonce


def _sign_locked(
    row: OutboundTransaction, network: Network, wallet: Wallet, market_fees: Fees, moves: Moves
) -> None:
    if row.next_attempt == AttemptKind.ORIGINAL:
        try:
            with database.atomic():  # a refusal gives the nonce and the day's caps back
                nonce = nonce_take(network_id=network.id, wallet_id=wallet.id)
                _attempt_make(row, network, wallet, AttemptKind.ORIGINAL, nonce, 1, market_fees)
        except SignerRefused as refused:
            moves.move(row, TransactionState.FAILED, topic="transaction.failed", reason=str(refused)[:300])
            return
        moves.move(row, TransactionState.SIGNED, nonce=nonce, next_attempt=AttemptKind.REPLACEMENT, reason="")
        return
    _outbid(row, network, wallet, market_fees, moves)


def _outbid(
    row: OutboundTransaction, network: Network, wallet: Wallet, market_fees: Fees, moves: Moves
) -> None:
    """Sign a replacement at the same nonce, or the cancellation; when nothing more may be bid, resend."""
    last = attempt_newest(row)
    bid = Fees(last.max_fee_units, last.priority_fee_units)
    cap, kind = network.max_fee_cap_units, AttemptKind(row.next_attempt)
    fees = None
    if kind == AttemptKind.REPLACEMENT:
        fees = fees_replacement(last=bid, market=market_fees, cap_units=cap)
    if fees is None:
        kind = AttemptKind.CANCEL
        fees = fees_cancel(last=bid, market=market_fees, cap_units=cap)
    if fees is not None:
        _attempt_make(row, network, wallet, kind, last.nonce, last.number + 1, fees)
    moves.move(row, TransactionState.SIGNED, topic="transaction.replaced" if fees else "", next_attempt=kind)


def _attempt_make(
    row: OutboundTransaction,
    network: Network,
    wallet: Wallet,
    kind: AttemptKind,
    nonce: int,
    number: int,
    fees: Fees,
) -> TransactionAttempt:
    factor = CANCEL_CAP_FACTOR if kind == AttemptKind.CANCEL else 1
    signed = signer.sign(
        transaction=row,
        wallet=wallet,
        network=network,
        kind=kind,
        nonce=nonce,
        fees=fees,
        max_fee_cap_units=factor * network.max_fee_cap_units,
    )
    return TransactionAttempt.objects.create(
        transaction=row,
        network=network,
        wallet=wallet,
        nonce=nonce,
        number=number,
        kind=kind,
        hash=signed.hash,
        raw=signed.raw,
        max_fee_units=fees.max_fee_units,
        priority_fee_units=fees.priority_fee_units,
    )
