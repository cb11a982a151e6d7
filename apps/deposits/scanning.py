"""Reading what blocks moved to our addresses, in order, oldest first; one bounded step per claim.

The scanner follows the headers that `chain.watch` holds and reads each block twice: as soon as it is held, and again
when it is final, from another endpoint if there is one, so that what a node dropped is found. The cursor names the
last block by its hash. When that is not on the held chain any more, the scanner goes back to where both part, and
what stood above is taken back. Cursor and sightings are one commit. What no node shows is unknown, and waits.
"""

import logging
from datetime import timedelta
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Now

from apps.chain.models import Block, Network
from apps.chain.services import traces_offered
from apps.core import clock
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.deposits.cursor import HALTED_SECONDS, interval, scan_place
from apps.deposits.models import Scan
from apps.deposits.reading import Part, Smaller, blocks_held, paced_save, part_held, part_read, sightings_of
from apps.deposits.services import sightings_record

logger = logging.getLogger(__name__)
# A scanner this far behind says how it gets on.
BEHIND = 100
# Headers are kept from a place that moves in steps, so that not every block writes the network's row.
KEEP_STEP = 32


SCAN_BELL = "deposits.scan"


class Moved(Exception):
    """The held chain changed while blocks were read: what was read is let go, and looked at again."""


def scans_ensure() -> int:
    """Make a scan for each network that has none; returns how many were made."""
    missing = Network.objects.filter(scan__isnull=True)
    return len(Scan.objects.bulk_create([Scan(network=row) for row in missing], ignore_conflicts=True))


def network_scan(claim: Claim[Scan]) -> None:
    """One step: go back if there was a fork, else read the next blocks, then the next final blocks again."""
    scan = Scan.objects.select_related("network").get(pk=claim.ids[0])
    network = scan.network
    if network.halted_at is not None or network.watched_block is None:
        with claim.locked():
            claim.wait(claim.ids, seconds=HALTED_SECONDS if network.halted_at else interval(network))
        return
    if not scan_place(claim):
        return
    scan.refresh_from_db()
    reach("deposits.scan.before_rpc")
    if scan.traces is None and scan.next_block is not None:
        _traces_find_out(claim, scan)
    before = scan.next_block, scan.next_final_block
    try:
        _head_read(claim, scan)
        _final_read(claim, scan)
        stuck = (scan.next_block, scan.next_final_block) == before
    except Moved:
        stuck = True
    except Smaller:
        stuck = False
    _release(claim, stuck=stuck, pokes=scan.pokes)


def _head_read(claim: Claim[Scan], scan: Scan) -> None:
    network = scan.network
    if scan.next_block is None:
        return
    part = part_held(scan, network, first=scan.next_block, last=network.watched_block or -1)
    if part is None:
        return
    # A range is final: its second reading, which brings native coin, comes right after. Bodies go by their hash;
    # it is the index of logs that nodes get wrong, and that is worth two readings.
    reading = part_read(claim, scan, part, network_id=network.pk, traced=scan.traces, whole=part.by_hash)
    reach("deposits.scan.after_rpc")
    with claim.locked() as rows:
        if not rows:
            return
        place = scan.next_block, scan.block_hash
        if (rows[0].next_block, rows[0].block_hash) != place or not _still(network.pk, part):
            raise Moved
        sightings_record(network.pk, sightings_of(part, reading))
        scan.next_block, scan.block_hash = part.last.number + 1, part.last.hash
        scan.read_by_id = reading.endpoint_id
        _reader_keep(scan, part.blocks[0].number, reading.endpoint_id)
        paced_save(scan, "next_block", "block_hash", "read_by", "first_readers")
        _headers_hold(scan, network)
        reach("deposits.scan.before_commit")
    reach("deposits.scan.after_commit")
    left = (network.watched_block or 0) - part.last.number
    if left > BEHIND:
        logger.info(
            "monitor catching up",
            extra={
                "network": network.name,
                "block": part.last.number,
                "head": network.watched_block,
                "left": left,
            },
        )


def _final_read(claim: Claim[Scan], scan: Scan) -> None:
    """Read what is final a second time."""
    network = scan.network
    if scan.next_final_block is None or scan.next_block is None or network.final_block is None:
        return
    if scan.traces is None:
        return  # the last chance to see internal transfers is not given away while nobody said
    reader, until = _reader(scan, scan.next_final_block)
    last = min(network.final_block, scan.next_block - 1, until)
    part = part_held(scan, network, first=scan.next_final_block, last=last)
    if part is None:
        return
    reading = part_read(
        claim, scan, part, network_id=network.pk, traced=scan.traces, final=True, avoid=reader
    )
    reach("deposits.final.after_rpc")
    with claim.locked() as rows:
        if not rows:
            return
        if rows[0].next_final_block != scan.next_final_block or not _still(network.pk, part):
            raise Moved
        found = sightings_record(network.pk, sightings_of(part, reading))
        scan.next_final_block, scan.read_again_by_id = part.last.number + 1, reading.endpoint_id
        paced_save(scan, "next_final_block", "read_again_by")
        reach("deposits.final.before_commit")
    reach("deposits.final.after_commit")
    if found:
        logger.warning(
            "found on the second reading only",
            extra={
                "network": network.name,
                "deposits": found,
                "first": part.blocks[0].number,
                "last": part.last.number,
                "first_reader": str(reader),
                "second_reader": str(reading.endpoint_id),
            },
        )


def _reader_keep(scan: Scan, first: int, endpoint_id: UUID) -> None:
    """From `first` on blocks were read by this endpoint; what was read a second time is forgotten."""
    kept = [one for one in scan.first_readers if one[0] < first]
    if not kept or kept[-1][1] != str(endpoint_id):
        kept.append([first, str(endpoint_id)])
    while len(kept) > 1 and kept[1][0] <= (scan.next_final_block or 0):
        kept.pop(0)
    scan.first_readers = kept


def _reader(scan: Scan, number: int) -> tuple[UUID | None, int]:
    """Who read a block first, and up to which block the same endpoint did."""
    reader, until = None, (scan.next_block or 0) - 1
    for first, endpoint_id in scan.first_readers:
        if first > number:
            return reader, min(until, first - 1)
        reader = UUID(endpoint_id)
    return reader, until


def _still(network_id: UUID, part: Part) -> bool:
    """Whether the part is still on the held chain; one that goes right after this is noticed at the next step."""
    return Block.objects.filter(network_id=network_id, hash=part.last.hash, orphaned_at__isnull=True).exists()


def _traces_find_out(claim: Claim[Scan], scan: Scan) -> None:
    """Ask the nodes once whether they offer traces; as long as they do not say, it is asked again."""
    block = blocks_held(scan.network_id, (scan.next_block or 0) - 1, (scan.next_block or 0) - 1)
    offered = traces_offered(network_id=scan.network_id, block=block[0]) if block else None
    if offered is None:
        return
    with claim.locked() as rows:
        if rows:
            scan.traces = offered
            scan.save(update_fields=["traces"])


def _headers_hold(scan: Scan, network: Network) -> None:
    """Have headers kept from below the place that is read next, with room to go back to a common ancestor."""
    lowest = min(scan.next_block or 0, scan.next_final_block or 0) - 1 - network.reorg_limit
    keep = max(0, lowest - lowest % KEEP_STEP)
    if network.keep_from_block != keep:
        Network.objects.filter(pk=network.pk).update(keep_from_block=keep)


def _release(claim: Claim[Scan], *, stuck: bool, pokes: int) -> None:
    """Give the claim back: at once due again when there is more, and behind whatever else is due by then."""
    with claim.locked() as rows:
        if not rows:
            return
        scan = rows[0]
        network = Network.objects.get(pk=scan.network_id)
        more = behind(scan, network) > 0 or second_behind(scan, network) > 0
        fresh = network.watched_at is not None and clock.now() - network.watched_at < patience(network)
        if not more and fresh:
            Scan.objects.filter(pk=scan.pk).update(scanned_at=Now())
        again = (more and not stuck) or scan.pokes != pokes
        claim.wait(claim.ids, seconds=0 if again else interval(network))


def behind(scan: Scan, network: Network) -> int:
    """How many held blocks were not read yet."""
    if network.watched_block is None or scan.next_block is None:
        return 0
    return max(0, network.watched_block - scan.next_block + 1)


def second_behind(scan: Scan, network: Network) -> int:
    """How many final blocks that were read once were not read a second time."""
    if network.final_block is None or scan.next_final_block is None or scan.next_block is None:
        return 0
    return max(0, min(network.final_block, scan.next_block - 1) - scan.next_final_block + 1)


def patience(network: Network) -> timedelta:
    """How long a network may be unread, or its head unknown, before that is a stall."""
    return timedelta(seconds=max(60, 10 * network.block_time_seconds))


def scan_poke(network_id: UUID) -> None:
    """Have a network looked at once more, now."""
    Scan.objects.filter(network_id=network_id).update(pokes=F("pokes") + 1, run_after=clock.now())
