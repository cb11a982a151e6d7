"""Reading a part of the held chain from the nodes, as much at once as they bear: for the scanner and for rescans."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection

from apps.chain.models import Block, Network
from apps.chain.services import AnswerTooLarge, HeldBlock, Reading, movements_read
from apps.core.errors import Retryable
from apps.core.work import Claim
from apps.deposits.domain import DepositKind, Sighting
from apps.deposits.models import Paced
from apps.deposits.windows import Window

# So many blocks are asked for one by one, by hash: exact, and cheap enough when there are few.
BY_HASH = 16


class Smaller(Exception):
    """Too much was asked for at once; the window is smaller now."""


@dataclass(frozen=True)
class Part:
    """Blocks to read in one go, and how."""

    blocks: list[HeldBlock]
    by_hash: bool

    @property
    def last(self) -> HeldBlock:
        return self.blocks[-1]


def blocks_held(network_id: UUID, first: int, last: int) -> list[HeldBlock]:
    """Canonical blocks that we hold from `first` on, without a gap; empty when `first` is not held."""
    rows = (
        Block.objects.filter(
            network_id=network_id, number__gte=first, number__lte=last, orphaned_at__isnull=True
        )
        .order_by("number")
        .values_list("number", "hash", "timestamp", "parent_hash")
    )
    found: list[HeldBlock] = []
    for number, block_hash, timestamp, parent_hash in rows:
        if number != first + len(found) or (found and parent_hash != found[-1].hash):
            break
        found.append(HeldBlock(number, block_hash, timestamp))
    return found


def part_held(paced: Paced, network: Network, *, first: int, last: int) -> Part | None:
    """The next blocks to read of those that are held, none above `last`; None when there is nothing to read.

    Blocks that may still change, and few blocks, are read by hash; many final ones as a range.
    """
    final = network.final_block if network.final_block is not None else -1
    far = first + BY_HASH <= min(final, last)
    last = (
        min(last, final, first + paced.window - 1)
        if far
        else min(last, first + min(BY_HASH, paced.window) - 1)
    )
    blocks = blocks_held(network.pk, first, last) if first <= last else []
    return Part(blocks, by_hash=len(blocks) <= BY_HASH) if blocks else None


def part_read(
    claim: Claim[Any],
    paced: Paced,
    part: Part,
    *,
    network_id: UUID,
    traced: bool | None,
    whole: bool = True,
    final: bool = False,
    avoid: UUID | None = None,
) -> Reading:
    """What the nodes show of `part`; learns from the answer how much to ask for next time.

    Raises `Retryable` when nothing may be concluded, `Smaller` to be asked again. Internal transfers must be there
    for final blocks; for others they are taken where the endpoint offers them.
    """
    window = Window(paced.window, paced.window_refused, paced.window_calm)
    asked = len(part.blocks)
    try:
        reading = movements_read(
            network_id=network_id,
            blocks=part.blocks,
            match=addresses_match,
            by_hash=part.by_hash,
            whole=whole,
            traced=bool(traced),
            traces_required=final,
            avoid=avoid,
        )
    except AnswerTooLarge as error:
        _window_set(claim, paced, window.too_much(asked=asked, hint=error.blocks))
        raise Smaller(str(error)) from None
    except Retryable:
        _window_set(claim, paced, window.failed(asked=asked))
        raise
    learned = window.answered(asked=asked, logs=reading.logs, seconds=reading.seconds)
    paced.window, paced.window_refused, paced.window_calm = learned.blocks, learned.refused, learned.calm
    return reading


def addresses_match(addresses: Collection[str]) -> set[str]:
    """Which of these are deposit addresses: one indexed query, however many addresses there are."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT address FROM deposits_depositaddress WHERE address = ANY(%s::varchar[])",
            [list(addresses)],
        )
        return {row[0] for row in cursor.fetchall()}


def sightings_of(part: Part, reading: Reading) -> list[Sighting]:
    times = {block.hash: datetime.fromtimestamp(block.timestamp, UTC) for block in part.blocks}
    return [
        Sighting(
            address=one.address,
            kind=DepositKind(one.kind),
            contract=one.contract,
            transaction_hash=one.transaction_hash,
            position=one.position,
            sender=one.sender,
            amount_units=one.amount_units,
            block_number=one.block_number,
            block_hash=one.block_hash,
            block_time=times[one.block_hash],
        )
        for one in reading.movements
    ]


def paced_save(paced: Paced, *fields: str) -> None:
    paced.save(update_fields=[*fields, "window", "window_refused", "window_calm"])


def _window_set(claim: Claim[Any], paced: Paced, window: Window) -> None:
    with claim.locked() as rows:
        if rows:
            paced.window, paced.window_refused, paced.window_calm = window.blocks, window.refused, window.calm
            paced_save(paced)
