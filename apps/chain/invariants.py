"""What must always hold for what we sent to a chain. Runs in production: reads only, violations capped."""

from django.db import connection
from django.db.models import Count, F, Q

from apps.chain import abi
from apps.chain.domain import FINAL, TransactionState
from apps.chain.models import (
    Block,
    OutboundTransaction,
    Recheck,
    RecheckState,
    TransactionAttempt,
    WalletNonce,
)
from apps.core.invariants import Finding, invariant

CAP = 20
_MINED = (
    TransactionState.MINED,
    TransactionState.CONFIRMED,
    TransactionState.REVERTED,
    TransactionState.CANCELLED,
)


@invariant("chain.one_mined_transaction_per_nonce")
def one_mined_per_nonce() -> Finding:
    """At most one mined transaction per (network, wallet, nonce), and it is the owner of the mined attempt."""
    mined = OutboundTransaction.objects.filter(state__in=_MINED, block_number__isnull=False)
    doubled = (
        mined.values("network_id", "wallet_id", "nonce").annotate(count=Count("id")).filter(count__gt=1)[:CAP]
    )
    astray = mined.filter(
        Q(attempt__isnull=True) | ~Q(attempt__transaction_id=F("id")) | ~Q(attempt__nonce=F("nonce"))
    )
    violations = [f"wallet {row['wallet_id']} nonce {row['nonce']}: {row['count']} mined" for row in doubled]
    violations += [f"transaction {row.pk} names an attempt that is not its own" for row in astray[:CAP]]
    return Finding(violations, {"mined": mined.count()})


@invariant("chain.one_intent_per_nonce")
def one_intent_per_nonce() -> Finding:
    """All attempts at a nonce belong to one intent: a nonce is never given twice."""
    shared = (
        TransactionAttempt.objects.values("network_id", "wallet_id", "nonce")
        .annotate(intents=Count("transaction_id", distinct=True))
        .filter(intents__gt=1)[:CAP]
    )
    return Finding(
        [f"wallet {row['wallet_id']} nonce {row['nonce']}: {row['intents']} intents" for row in shared]
    )


@invariant("chain.no_nonce_gap")
def no_nonce_gap() -> Finding:
    """Below the allocator every nonce has an attempt, and below a final nonce nothing is unmined."""
    violations, seen = [], 0
    for allocator in WalletNonce.objects.all():
        used = set(
            TransactionAttempt.objects.filter(network_id=allocator.network_id, wallet_id=allocator.wallet_id)
            .values_list("nonce", flat=True)
            .distinct()
        )
        seen += len(used)
        expected = set(range(allocator.first_nonce, allocator.next_nonce))
        if used != expected:
            differing = sorted(used ^ expected)[:5]
            violations.append(
                f"wallet {allocator.wallet_id}: nonces {differing} allocated and attempted differently"
            )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT open.id, open.nonce FROM chain_outboundtransaction AS open"
            " JOIN chain_outboundtransaction AS done USING (network_id, wallet_id)"
            " WHERE open.state IN ('queued', 'signed', 'sent') AND open.nonce IS NOT NULL AND open.attempts = 0"
            "   AND done.state IN ('confirmed', 'reverted', 'cancelled') AND done.block_number IS NOT NULL"
            "   AND done.nonce > open.nonce"
            "   AND NOT EXISTS (SELECT 1 FROM chain_network AS network WHERE network.id = open.network_id"
            "                   AND network.watched_block < done.block_number + network.confirmations)"
            " LIMIT %s",
            [CAP],
        )
        violations += [
            f"transaction {row[0]} (nonce {row[1]}) is open below a final nonce" for row in cursor.fetchall()
        ]
    return Finding(violations, {"nonces": seen})


@invariant("chain.attempts_match_their_bytes")
def attempts_match_their_bytes() -> Finding:
    """The stored hash of an attempt is the hash of its stored bytes (the latest ten thousand)."""
    wrong: list[str] = []
    seen = 0
    for made in TransactionAttempt.objects.order_by("-id")[:10_000].iterator(chunk_size=500):
        seen += 1
        if "0x" + abi.keccak_bytes(bytes(made.raw)).hex() != made.hash and len(wrong) < CAP:
            wrong.append(f"attempt {made.pk}")
    return Finding(wrong, {"attempts": seen})


@invariant("chain.headers_form_a_chain")
def headers_form_a_chain() -> Finding:
    """Of two held canonical headers in a row, the later names the earlier as its parent."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT later.network_id, later.number FROM chain_block AS later JOIN chain_block AS earlier"
            " ON earlier.network_id = later.network_id AND earlier.number = later.number - 1"
            " AND earlier.orphaned_at IS NULL"
            " WHERE later.orphaned_at IS NULL AND later.parent_hash <> earlier.hash LIMIT %s",
            [CAP],
        )
        violations = [
            f"network {row[0]} block {row[1]}: its parent is not the block before"
            for row in cursor.fetchall()
        ]
    return Finding(violations, {"blocks": Block.objects.filter(orphaned_at__isnull=True).count()})


@invariant("chain.final_is_on_chain")
def final_is_on_chain() -> Finding:
    """A final transaction's block is the canonical one wherever we (still) hold that height.

    Save for those that are looked for after a fork.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT done.reference FROM chain_outboundtransaction AS done JOIN chain_block AS block"
            " ON block.network_id = done.network_id AND block.number = done.block_number"
            " AND block.orphaned_at IS NULL"
            " WHERE done.state = ANY(%s) AND done.block_hash <> block.hash"
            "   AND NOT EXISTS (SELECT FROM chain_recheck AS recheck"
            "                   WHERE recheck.transaction_id = done.id AND recheck.state = 'open') LIMIT %s",
            [[str(state) for state in FINAL], CAP],
        )
        violations = [f"{row[0]} is final in a block that is not canonical" for row in cursor.fetchall()]
    return Finding(violations)


@invariant("chain.booked_as_it_happened")
def booked_as_it_happened() -> Finding:
    """No fork has made something else of a transaction than what is booked of it."""
    rows = Recheck.objects.filter(state=RecheckState.DECIDE).select_related("transaction").order_by("id")
    return Finding(
        [f"{row.transaction.reference}: booked as {row.before}, now {row.after}" for row in rows[:CAP]],
        {"looked_for": Recheck.objects.filter(state=RecheckState.OPEN).count()},
    )
