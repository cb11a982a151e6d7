"""By how much balances really grew: what a token announces is a claim, what `balanceOf` says is what can be spent.

Per address, token and block: the balance after the block minus the balance after its parent, without what we moved
ourselves in that block. Several deposits of one block share one change.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from apps.chain import selectors
from apps.chain.domain import OUTSTANDING, AttemptKind, CallReverted
from apps.chain.models import Block, OutboundTransaction
from apps.chain.services import BalanceAsk, balances_read, block_read
from apps.core.allocation import allocate
from apps.deposits.crediting import units_of
from apps.deposits.domain import DepositState, UnsupportedReason
from apps.deposits.models import Deposit

# Full nodes keep the states of the last 128 blocks: younger than this, a missing state is only unknown.
STATE_KEPT_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where one change is measured: an address, a token ("" for the native coin), a block."""

    address: str
    contract: str
    block_hash: str


def place_of(row: Deposit) -> Place:
    """The row's; wants `address` loaded."""
    return Place(row.address.address, row.contract, row.block_hash)


def changes_measure(
    *, network_id: UUID, blocks: Mapping[str, int], places: Sequence[Place]
) -> dict[Place, int | None]:
    """What came to each place from others, in base units; `blocks` has the numbers of the blocks by hash.

    A place that is left out cannot be measured yet (unknown), one with None never again (the token refuses). Raises
    `Retryable` when no endpoint answers.
    """
    parents = _parents(network_id, blocks)
    known = [place for place in places if place.block_hash in parents]
    asks = []
    for place in known:
        asks.append(BalanceAsk(place.contract, place.address, place.block_hash))
        asks.append(BalanceAsk(place.contract, place.address, parents[place.block_hash]))
    answers = balances_read(network_id=network_id, asks=asks)
    moved = _moved_by_us(network_id, known)
    found: dict[Place, int | None] = {}
    for number, place in enumerate(known):
        after, before = answers[2 * number], answers[2 * number + 1]
        if isinstance(after, CallReverted) or isinstance(before, CallReverted):
            found[place] = None
        elif after is not None and before is not None:
            found[place] = after - before - moved.get(place, 0)
    return found


def _parents(network_id: UUID, blocks: Mapping[str, int]) -> dict[str, str]:
    """Parent hashes: from our headers, else from a node that shows the very block."""
    held = Block.objects.filter(network_id=network_id, hash__in=list(blocks))
    parents = dict(held.values_list("hash", "parent_hash"))
    for block_hash, number in blocks.items():
        if block_hash not in parents:
            shown = block_read(network_id=network_id, block=number)
            if shown is not None and shown.hash == block_hash:
                parents[block_hash] = shown.parent_hash
    return parents


def _moved_by_us(network_id: UUID, places: Collection[Place]) -> dict[Place, int]:
    """What our own transactions of these blocks moved at each place, signed: sweeps, their gas, and top-ups."""
    addresses = {place.address for place in places}
    rows = (
        OutboundTransaction.objects.select_related("wallet", "attempt")
        .filter(network_id=network_id, block_hash__in={place.block_hash for place in places})
        .filter(Q(wallet__address__in=addresses) | Q(to__in=addresses))
    )
    moved: dict[Place, int] = defaultdict(int)
    for row in rows:
        sender, block_hash = row.wallet.address, row.block_hash
        for token, units in selectors.transaction_effects(row):
            moved[Place(sender, token or "", block_hash)] += units
        moved[Place(sender, "", block_hash)] -= row.gas_cost_units
        cancelled = row.attempt is not None and row.attempt.kind == AttemptKind.CANCEL
        if row.succeeded and not cancelled and row.to != sender:
            moved[Place(row.to, "", block_hash)] += row.value_units
    return moved


def addresses_unsettled(*, network_id: UUID, addresses: Collection[str]) -> set[str]:
    """Those with a transaction of ours under way: a block may hold it before we know, so nothing is concluded."""
    rows = OutboundTransaction.objects.filter(
        network_id=network_id, state__in=OUTSTANDING, nonce__isnull=False
    )
    rows = rows.filter(Q(wallet__address__in=addresses) | Q(to__in=addresses))
    found: set[str] = set()
    for pair in rows.values_list("wallet__address", "to"):
        found.update(pair)
    return found & set(addresses)


@dataclass(frozen=True, slots=True)
class Share:
    """What one deposit's part of a measured change is: units, or the reason why it has none."""

    units: int = 0
    reason: str = ""


def shares(*, rows: Sequence[Deposit], change_units: int | None, credit_measured: bool) -> dict[UUID, Share]:
    """Share one place's change among all its deposits; `rows` are those that the chain still has.

    What was believed before keeps what it has. The rest must be what is announced, exactly; with `credit_measured`
    (a token that takes a fee) it may be less and is shared by largest remainder. A native transfer cannot lie, so
    that there more than announced is no mismatch: contracts may have sent coins that no trace shows.
    """
    settled = (DepositState.CONFIRMING, DepositState.CREDITED, DepositState.IGNORED)
    open_ = [
        row
        for row in rows
        if row.state == DepositState.SEEN
        or (row.state == DepositState.UNSUPPORTED and row.reason == UnsupportedReason.BALANCE_MISMATCH)
    ]
    announced = sum(row.amount_units for row in open_)
    mismatch = {row.pk: Share(reason=UnsupportedReason.BALANCE_MISMATCH.value) for row in open_}
    if change_units is None:
        return mismatch
    left = change_units - sum(units_of(row) for row in rows if row.state in settled)
    if left == announced or (left > announced and not open_[0].contract):
        return {row.pk: Share(row.amount_units) for row in open_}
    if not (credit_measured and 0 < left < announced):
        return mismatch
    parts = allocate(left, [row.amount_units for row in open_], [row.pk for row in open_])
    return {
        row.pk: Share(units) if units else mismatch[row.pk] for row, units in zip(open_, parts, strict=True)
    }
