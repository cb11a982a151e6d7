"""Reading a range of final blocks again: after an address or a token was added, or because somebody asked.

Safe at any time and any number of times: what is known already changes nothing.
"""

import logging
from uuid import UUID

from django.db import transaction

from apps.chain.models import Block, Network
from apps.chain.services import HeldBlock, blocks_read
from apps.core import clock, doorbell
from apps.core.errors import DomainError, NotFound, Retryable
from apps.core.failpoints import reach
from apps.core.work import Claim
from apps.deposits.cursor import HALTED_SECONDS, interval
from apps.deposits.history import RESCAN_BELL, history_look
from apps.deposits.models import Rescan
from apps.deposits.reading import Part, Smaller, part_held, part_read, sightings_of
from apps.deposits.services import sightings_record

logger = logging.getLogger(__name__)


def rescan_request(*, network_id: UUID, from_block: int, to_block: int | None = None, reason: str) -> Rescan:
    """Have a range read again, up to the head as it is now unless told otherwise; both ends are included.

    Blocks that are not final yet are read when they are. Asking again while the same range is waiting returns the
    request that is open. Raises `DomainError` for a range that is empty or in the future, `NotFound`.
    """
    with transaction.atomic():
        network = Network.objects.select_for_update(no_key=True).filter(pk=network_id).first()
        if network is None:
            raise NotFound("No such network.")
        if network.watched_block is None:
            raise DomainError("network_not_watched", "The network's head is not known yet.", status=409)
        last = network.watched_block if to_block is None else to_block
        if from_block < 0 or last < from_block:
            raise DomainError(
                "invalid_range", "The range is empty or begins below zero.", pointer="/from_block"
            )
        if last > network.watched_block:
            raise DomainError(
                "range_in_future", f"The head is block {network.watched_block}.", pointer="/to_block"
            )
        row = Rescan.objects.filter(
            network=network, state="open", from_block=from_block, to_block=last, next_block=from_block
        ).first()
        if row is None:
            row = Rescan.objects.create(
                network=network,
                from_block=from_block,
                to_block=last,
                next_block=from_block,
                reason=reason[:200],
            )
        doorbell.ring(RESCAN_BELL)
    return row


def rescan_step(claim: Claim[Rescan]) -> None:
    """Read the next blocks of a range, as many as the window allows; for a new address, first see which."""
    rescan = Rescan.objects.select_related("network__scan", "address").get(pk=claim.ids[0])
    network = rescan.network
    final = network.final_block if network.final_block is not None else -1
    last = min(rescan.to_block, final)
    if network.halted_at is not None or rescan.next_block > last:
        with claim.locked():
            claim.wait(claim.ids, seconds=HALTED_SECONDS if network.halted_at else interval(network))
        return
    if rescan.state == "asked":
        history_look(claim, rescan)
        return
    traced = network.scan.traces if hasattr(network, "scan") else None
    part = part_held(rescan, network, first=rescan.next_block, last=last) or _part_shown(rescan, last=last)
    reach("deposits.rescan.before_rpc")
    try:
        reading = part_read(claim, rescan, part, network_id=network.pk, traced=traced)
    except Smaller:
        with claim.locked():
            claim.wait(claim.ids, seconds=0)
        return
    reach("deposits.rescan.after_rpc")
    if traced and not reading.traced:
        # Few nodes keep the state that old traces need; waiting for one that does would end nothing.
        logger.warning(
            "rescan without internal transfers",
            extra={"network": network.name, "first": part.blocks[0].number, "last": part.last.number},
        )
    with claim.locked() as rows:
        if not rows:
            return
        rescan.found = rows[0].found + sightings_record(network.pk, sightings_of(part, reading))
        rescan.next_block = part.last.number + 1
        if rescan.next_block > rescan.to_block:
            rescan.state, rescan.done_at = "done", clock.now()
        rescan.save(
            update_fields=[
                "found", "next_block", "state", "done_at", "window", "window_refused", "window_calm"
            ]
        )  # fmt: skip
        claim.wait(claim.ids, seconds=0)
        reach("deposits.rescan.before_commit")
    reach("deposits.rescan.after_commit")
    logger.info(
        "rescan",
        extra={
            "network": network.name,
            "block": part.last.number,
            "to": rescan.to_block,
            "found": rescan.found,
            "left": rescan.to_block - part.last.number,
        },
    )


def _part_shown(rescan: Rescan, *, last: int) -> Part:
    """Old blocks whose headers are not held any more, as the endpoints agree on them.

    The part ends where held headers begin; there the last one must be the parent of the first held.
    """
    following = (
        Block.objects.filter(
            network_id=rescan.network_id,
            number__gt=rescan.next_block,
            number__lte=last,
            orphaned_at__isnull=True,
        )
        .order_by("number")
        .first()
    )
    end = min(last, rescan.next_block + rescan.window - 1, following.number - 1 if following else last)
    shown = blocks_read(network_id=rescan.network_id, first=rescan.next_block, last=end)
    if following is not None and end == following.number - 1 and shown[-1].hash != following.parent_hash:
        raise Retryable(
            f"the endpoints show another block {end} than the headers that follow", after_seconds=5
        )
    return Part([HeldBlock(one.number, one.hash, one.timestamp) for one in shown], by_hash=False)
