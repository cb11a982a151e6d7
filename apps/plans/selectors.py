"""Reads of plans and slots for their owner. A fixed number of queries each; another person's id finds nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from itertools import chain
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Count, Prefetch, Q, Subquery, Sum

from apps.chain.models import TransactionAttempt
from apps.core.api.pagination import Cursor, Page, PageQuery, page_cut
from apps.core.brief import Brief
from apps.core.errors import NotFound
from apps.core.models import Asset
from apps.ledger.models import Journal
from apps.plans.models import Plan, Slot, SlotState
from apps.providers.models import Market

_MARKET = ("market__sold_asset", "market__bought_asset")
# What a list of slots does not show: records and receipts are thousands of characters each.
_HEAVY = (
    "decision",
    "batch__decision",
    "batch__transaction__data",
    "batch__transaction__logs",
    "batch__transaction__attempt__raw",
)


def _markets_read(_: str) -> dict[UUID, Market]:
    return {market.pk: market for market in Market.objects.select_related("sold_asset", "bought_asset")}


# A page of plans is hundreds of columns shorter without those that all of its rows share.
MARKETS_OF_PLANS = Brief(_markets_read, seconds=1.0, models=(Market, Asset))


class PlanLine(NamedTuple):
    """What a list shows of a plan, named like the plan's own columns, and its market."""

    id: UUID
    version: int
    name: str
    state: str
    state_reason: str
    market_id: UUID
    amount_units: int
    total_budget_units: int | None
    committed_units: int
    price_min_units: int | None
    price_max_units: int | None
    max_slippage_bps: int
    missed_policy: str
    grace_seconds: int
    run_all_limit: int
    misses_in_a_row: int
    schedule_kind: str
    interval: int
    local_time: time | None
    weekdays: list[int]
    month_day: int | None
    cron: str
    zone: str
    start_at: datetime
    end_at: datetime | None
    max_runs: int | None
    next_number: int
    run_after: datetime
    created_at: datetime
    market: Market


_LISTED = PlanLine._fields[:-1]
_LIST = f"""SELECT {", ".join(f'"{name}"' for name in _LISTED)} FROM plans_plan"""
_MARKET_AT = _LISTED.index("market_id")
_UNITS_AT = [at for at, name in enumerate(_LISTED) if name.endswith("_units")]


@dataclass(frozen=True, slots=True)
class PlanProgress:
    """What became of a plan's slots: counts per outcome, and base units of settled and unsettled ones.

    `spent_units` counts settled slots' whole amounts, fee included; `under_way_units` is promised, not spent.
    """

    settled: int
    skipped: int
    failed: int
    under_way: int
    spent_units: int
    fee_units: int
    received_units: int
    under_way_units: int

    @property
    def swapped_units(self) -> int:
        return self.spent_units - self.fee_units


# A plan that was made just now.
NO_PROGRESS = PlanProgress(0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class JournalReference:
    """A journal of the ledger that moved money for a slot."""

    id: UUID
    kind: str
    reference: str
    posted_at: datetime


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """One slot with everything that decided over it; the batch's transaction comes with its attempts."""

    slot: Slot
    journals: list[JournalReference]

    @property
    def decision(self) -> Mapping[str, Any]:
        """The slot's own facts over those that it shares with its batch."""
        shared: Mapping[str, Any] = self.slot.batch.decision if self.slot.batch is not None else {}
        return {**shared, **self.slot.decision}


def plan_page(
    *, owner_id: UUID, query: PageQuery, state: str = "", market_id: UUID | None = None
) -> Page[PlanLine]:
    """A person's plans, newest first, with markets and assets up to a second old. One query, or two.

    The list that is asked for most: its SQL is written once, not by the ORM each time, and its rows are tuples.
    """
    wanted: dict[str, Any] = {"owner_id = %s": [owner_id]}
    if state:
        wanted["state = %s"] = [state]
    if market_id is not None:
        wanted["market_id = %s"] = [market_id]
    if query.cursor is not None:
        wanted["(created_at, id) < (%s, %s)"] = [query.cursor.created_at, query.cursor.id]
    statement = f"{_LIST} WHERE {' AND '.join(wanted)} ORDER BY created_at DESC, id DESC LIMIT %s"
    with connection.cursor() as cursor:
        cursor.execute(statement, [*chain.from_iterable(wanted.values()), query.limit + 1])
        rows = cursor.fetchall()
    markets = MARKETS_OF_PLANS.get("all")
    if not {row[_MARKET_AT] for row in rows} <= markets.keys():
        MARKETS_OF_PLANS.forget()  # one was opened this second
        markets = MARKETS_OF_PLANS.get("all")
    found = [_line(row, markets[row[_MARKET_AT]]) for row in rows]
    return page_cut(found, limit=query.limit, place=lambda plan: Cursor(plan.created_at, plan.id))


def _line(row: tuple[Any, ...], market: Market) -> PlanLine:
    values = list(row)
    for at in _UNITS_AT:
        # As everywhere units are `int`: a Decimal would be rounded by the first calculation.
        values[at] = None if values[at] is None else int(values[at])
    return PlanLine._make([*values, market])


def plan_get(*, owner_id: UUID, plan_id: UUID) -> Plan:
    """One plan of this person. Raises `NotFound`. One query."""
    plan = Plan.objects.filter(pk=plan_id, owner_id=owner_id).select_related(*_MARKET).first()
    if plan is None:
        raise NotFound
    return plan


def plan_progress(*, plan_id: UUID) -> PlanProgress:
    """What became of the plan's slots. One query, over the plan's slots."""
    settled, open_ = Q(state=SlotState.SETTLED), Q(closed_at__isnull=True)
    found = Slot.objects.filter(plan_id=plan_id).aggregate(
        settled=Count("pk", filter=settled),
        skipped=Count("pk", filter=Q(state=SlotState.SKIPPED)),
        failed=Count("pk", filter=Q(state=SlotState.FAILED)),
        under_way=Count("pk", filter=open_),
        spent_units=Sum("amount_units", filter=settled),
        fee_units=Sum("fee_units", filter=settled),
        received_units=Sum("received_units", filter=settled),
        under_way_units=Sum("amount_units", filter=open_),
    )
    return PlanProgress(**{name: int(value or 0) for name, value in found.items()})


def slot_page(
    *, owner_id: UUID, plan_id: UUID, query: PageQuery, state: str = "", reason: str = ""
) -> Page[Slot]:
    """A plan's slots, highest number first. Two queries. Raises `NotFound` for another person's plan.

    Slots are created in the order of their numbers, so that a cursor names a number and the page is a walk along
    the unique index (plan, number).
    """
    if not Plan.objects.filter(pk=plan_id, owner_id=owner_id).exists():
        raise NotFound
    rows = Slot.objects.filter(plan_id=plan_id).select_related(*_MARKET, "batch__transaction__attempt")
    rows = rows.filter(state=state) if state else rows
    rows = rows.filter(reason=reason) if reason else rows
    if query.cursor is not None:
        seen = Slot.objects.filter(pk=query.cursor.id, plan_id=plan_id).values("number")
        rows = rows.filter(number__lt=Subquery(seen))
    found = list(rows.defer(*_HEAVY).order_by("-number")[: query.limit + 1])
    return page_cut(found, limit=query.limit, place=lambda slot: Cursor(slot.created_at, slot.pk))


def slot_get(*, owner_id: UUID, slot_id: UUID) -> SlotRecord:
    """A slot with its batch, transaction, attempts and journals. Raises `NotFound`.

    Three queries; two for a slot that never came to a transaction.
    """
    attempts = TransactionAttempt.objects.defer("raw").order_by("nonce", "number")
    slot = (
        Slot.objects.filter(pk=slot_id, owner_id=owner_id)
        .select_related(*_MARKET, "plan", "batch__transaction__attempt", "batch__transaction__network")
        .prefetch_related(Prefetch("batch__transaction__attempts_made", queryset=attempts))
        .defer("batch__transaction__data", "batch__transaction__logs", "batch__transaction__attempt__raw")
        .first()
    )
    if slot is None:
        raise NotFound
    if slot.batch is not None:
        # The batch's market is the slot's: set, so that its assets are not read again.
        slot.batch.market = slot.market
    references = [f"slot:{slot.pk}:{step}" for step in ("hold", "settle", "release")]
    journals = Journal.objects.filter(reference__in=references).order_by("posted_at", "id")
    return SlotRecord(
        slot, [JournalReference(*row) for row in journals.values_list("id", "kind", "reference", "posted_at")]
    )


def price_units(*, sold_units: int | None, bought_units: int | None, bought_decimals: int) -> int | None:
    """Sold base units for one whole bought coin, rounded up; None where nothing was bought."""
    if not sold_units or not bought_units:
        return None
    return int(-(-sold_units * 10**bought_decimals // bought_units))
