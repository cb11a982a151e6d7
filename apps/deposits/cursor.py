"""Where the scanner stands: its place on the held chain, and going back when that is not there any more."""

import logging
from uuid import UUID

from django.db import connection

from apps.chain.models import Block, Network
from apps.chain.services import HeldBlock
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.deposits.models import Rescan, Scan
from apps.deposits.reading import blocks_held
from apps.deposits.services import deposits_orphan

logger = logging.getLogger(__name__)
HALTED_SECONDS = 10.0


def interval(network: Network) -> float:
    """Seconds between two looks at a network that has nothing new."""
    return max(0.5, network.block_time_seconds / 2)


def scan_place(claim: Claim[Scan]) -> bool:
    """Bring the cursor onto the held chain; False when the claim was given back instead."""
    with claim.locked() as rows:
        if not rows:
            return False
        scan = rows[0]
        network = Network.objects.get(pk=scan.network_id)
        if scan.next_block is None:
            _begin(scan)
        elif (network.watched_block or 0) < scan.next_block - 1:
            # After a fork or a halt the chain is being built up again: not high enough to be compared.
            claim.wait(claim.ids, seconds=interval(network))
            return False
        else:
            _follow(scan, network)
        reach("deposits.scan.placed")
    return True


def _begin(scan: Scan) -> None:
    """On a network that was never read: from the oldest block that is held. Addresses are younger than that."""
    oldest = _oldest(scan.network_id)
    if oldest is not None:
        _move(scan, oldest, final=oldest.number + 1)


def _follow(scan: Scan, network: Network) -> None:
    """Go back to where the cursor's chain and the held one part, and take back what stood above."""
    number = (scan.next_block or 0) - 1
    held = blocks_held(network.pk, number, number)
    if held and held[0].hash == scan.block_hash:
        return
    oldest = _oldest(network.pk)
    if oldest is None:
        return
    if not held:
        first = min(number, scan.next_final_block or number)
        # Headers went before they were read. It should not happen; what was skipped is read as a range of its own.
        logger.error(
            "monitor lost headers", extra={"network": network.name, "from": number, "to": oldest.number}
        )
        Rescan.objects.create(
            network=network,
            from_block=first,
            to_block=max(first, oldest.number),
            next_block=first,
            reason="headers were lost before they were read",
        )
        _move(scan, oldest, final=oldest.number + 1)
        return
    ancestor = _ancestor(network.pk, scan.block_hash) or oldest
    logger.warning(
        "monitor goes back", extra={"network": network.name, "from": number, "ancestor": ancestor.number}
    )
    _move(scan, ancestor, final=min(scan.next_final_block or 0, ancestor.number + 1))
    count = deposits_orphan(network.pk)
    if count:
        logger.warning("deposits taken back", extra={"network": network.name, "deposits": count})
    reach("deposits.rewind.before_commit")


def _move(scan: Scan, block: HeldBlock, *, final: int) -> None:
    scan.next_block, scan.block_hash, scan.next_final_block = block.number + 1, block.hash, final
    scan.save(update_fields=["next_block", "block_hash", "next_final_block"])


def _oldest(network_id: UUID) -> HeldBlock | None:
    row = (
        Block.objects.filter(network_id=network_id, orphaned_at__isnull=True)
        .order_by("number")
        .values_list("number", "hash", "timestamp")
        .first()
    )
    return HeldBlock(*row) if row else None


def _ancestor(network_id: UUID, block_hash: str) -> HeldBlock | None:
    """The first block below `block_hash`, by its parents as we hold them, that is on the held chain."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE line AS ("
            " SELECT number, hash, parent_hash, timestamp, orphaned_at FROM chain_block"
            " WHERE network_id = %(network)s AND hash = %(hash)s"
            " UNION ALL SELECT block.number, block.hash, block.parent_hash, block.timestamp, block.orphaned_at"
            " FROM line JOIN chain_block AS block"
            " ON block.network_id = %(network)s AND block.hash = line.parent_hash"
            " WHERE line.orphaned_at IS NOT NULL)"
            " SELECT number, hash, timestamp FROM line WHERE orphaned_at IS NULL",
            {"network": network_id, "hash": block_hash},
        )
        row = cursor.fetchone()
    return HeldBlock(*row) if row else None
