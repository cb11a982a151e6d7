"""Proof of reserves, continuously: every look is compared, kept, and, when two in a row are wrong, acted on.

One look that differs proves little: a reorg may just be on its way through our tables. A difference that a second
look at a later block still shows pauses buying and withdrawing of that asset until an operator lifts it; a gift in one
of our own wallets is only told.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction

from apps.core import clock
from apps.core.failpoints import reach
from apps.events.services import EventDraft, events_publish
from apps.treasury.domain import DEPOSITS_REF
from apps.treasury.models import Activity, PauseSource, ReservesSnapshot, Verdict
from apps.treasury.pauses import PLATFORM, pause_set
from apps.treasury.reconciliation import Holding, Reconciled, reconcile

logger = logging.getLogger(__name__)

ACTOR = "reconciliation"


@dataclass
class _Totals:
    """One asset in one look."""

    holdings: list[Holding] = field(default_factory=list)
    unproved: str = ""

    def sum(self, name: str) -> int:
        return sum(getattr(holding, name) for holding in self.holdings)

    @property
    def mismatch_units(self) -> int:
        return sum(abs(holding.difference_units) for holding in self.holdings)


def reserves_check() -> list[ReservesSnapshot]:
    """Compare everything once, keep the result, and pause what differs for the second time.

    Safe to run twice at once: a look that is not newer than the one kept changes nothing. Writes
    `reserves.diverged` and `reserves.matched`. Memory: the addresses of a pool (about 100 bytes each).
    """
    found = reconcile()
    totals = _totals(found)
    reach("treasury.reserves.before_commit")
    with transaction.atomic():
        ReservesSnapshot.objects.bulk_create(
            [
                ReservesSnapshot(network=found.assets[asset_id], asset_id=asset_id, verdict=Verdict.UNPROVED)
                for asset_id in totals
            ],
            ignore_conflicts=True,
        )
        rows = list(
            ReservesSnapshot.objects.select_for_update(of=("self",))
            .select_related("asset", "network")
            .filter(asset_id__in=list(totals))
            .order_by("pk")
        )
        for row in rows:
            _look(row, totals[row.asset_id], liabilities_units=found.liabilities_units.get(row.asset_id, 0))
        ReservesSnapshot.objects.bulk_update(rows, _KEPT)
    return rows


_KEPT = (
    "verdict", "reason", "liabilities_units", "ledger_units", "chain_units", "in_flight_units", "mismatch_units",
    "block_number", "looked_at", "matched_block", "since_block", "alarmed_units", "suspected_block",
)  # fmt: skip


def _totals(found: Reconciled) -> dict[UUID, _Totals]:
    totals: dict[UUID, _Totals] = defaultdict(_Totals)
    for holding in found.holdings:
        totals[holding.asset_id].holdings.append(holding)
    for lost in found.unreadable:
        assets = (
            [lost.asset_id]
            if lost.asset_id
            else [asset_id for asset_id, network in found.assets.items() if network.name == lost.network]
        )
        for asset_id in assets:
            totals[asset_id].unproved = lost.error
    return dict(totals)


def _look(row: ReservesSnapshot, seen: _Totals, *, liabilities_units: int) -> None:
    """Bring a row up to what was seen. An asset that diverged stays so until it is seen to match."""
    row.looked_at = clock.now()
    if seen.unproved or not seen.holdings:
        row.reason = (seen.unproved or "nothing was read")[:300]
        if row.verdict != Verdict.DIVERGED:
            row.verdict = Verdict.UNPROVED
        return
    block = seen.holdings[0].block_number
    if row.block_number is not None and block < row.block_number and row.verdict != Verdict.UNPROVED:
        return
    row.reason = ""
    row.block_number = block
    row.liabilities_units = liabilities_units
    row.ledger_units = seen.sum("ledger_units")
    row.chain_units = seen.sum("chain_units")
    row.in_flight_units = seen.sum("unbooked_units")
    row.mismatch_units = seen.mismatch_units
    if not row.mismatch_units:
        _matched(row, block)
    elif row.verdict == Verdict.DIVERGED and row.alarmed_units == row.mismatch_units:
        row.suspected_block = None
    elif row.suspected_block is None:
        row.suspected_block = block
        row.since_block = row.since_block if row.verdict == Verdict.DIVERGED else block
        row.verdict = Verdict.DIVERGED if row.verdict == Verdict.DIVERGED else Verdict.CHECKING
    elif block > row.suspected_block:
        _alarm(row, seen.holdings)


def _matched(row: ReservesSnapshot, block: int) -> None:
    if row.verdict == Verdict.DIVERGED:
        events_publish([_draft("reserves.matched", row)])
        logger.warning("reserves match again", extra={"asset": row.asset.code, "block": block})
    row.verdict, row.matched_block = Verdict.MATCHED, block
    row.since_block = row.alarmed_units = row.suspected_block = None


def _alarm(row: ReservesSnapshot, holdings: Sequence[Holding]) -> None:
    """The second look agrees that something is wrong: stop the asset, say by how much and since when.

    More than expected in a wallet of the platform's own stops nothing: anybody can send a unit there, and nobody
    should be able to stop an asset with it. It is said all the same. At deposit addresses it would be a deposit that
    the monitor missed.
    """
    news = row.verdict != Verdict.DIVERGED
    row.verdict, row.alarmed_units, row.suspected_block = Verdict.DIVERGED, row.mismatch_units, None
    details = {
        **_facts(row),
        "wallets": {h.wallet: str(h.difference_units) for h in holdings if h.difference_units},
    }
    stops = any(h.difference_units < 0 or (h.difference_units and h.wallet == DEPOSITS_REF) for h in holdings)
    made = pause_set(
        activities=[Activity.BUYING, Activity.WITHDRAWING] if stops else [],
        asset_id=row.asset_id,
        reason=f"Books and chain differ by {row.difference_units} units of {row.asset.code} since block"
        f" {row.since_block}",
        actor=ACTOR,
        source=PauseSource.RECONCILIATION,
        details=details,
    )
    if news or made:
        events_publish([_draft("reserves.diverged", row)])
        logger.error("reserves diverged", extra={"asset": row.asset.code, **details})


def _facts(row: ReservesSnapshot) -> dict[str, str | int | None]:
    return {
        "network": row.network.name,
        "asset": row.asset.code,
        "difference_units": str(row.difference_units),
        "mismatch_units": str(row.mismatch_units),
        "since_block": row.since_block,
        "matched_block": row.matched_block,
        "block_number": row.block_number,
    }


def _draft(topic: str, row: ReservesSnapshot) -> EventDraft:
    return EventDraft(topic, "platform", PLATFORM, _facts(row), "asset", row.asset_id)


def reserves_list() -> list[ReservesSnapshot]:
    """The latest look at every asset, by network and code. One query."""
    return list(
        ReservesSnapshot.objects.select_related("asset", "network").order_by("network__name", "asset__code")
    )
