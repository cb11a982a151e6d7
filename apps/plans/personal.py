"""What plans know about a person, for their export."""

from collections.abc import Iterator
from uuid import UUID

from apps.accounts.exports import CHUNK, Row, section_register
from apps.core.api.amounts import amount_format
from apps.plans.models import Plan, Slot

_MARKET = ("market__sold_asset", "market__bought_asset")


def _amount(units: int | None, places: int) -> str | None:
    return None if units is None else amount_format(units, decimals=places)


def _plans(user_id: UUID) -> Iterator[Row]:
    rows = Plan.objects.filter(owner_id=user_id).select_related(*_MARKET).order_by("created_at", "id")
    for row in rows.iterator(chunk_size=CHUNK):
        sold = row.market.sold_asset
        yield {
            "id": row.pk,
            "name": row.name,
            "sold_asset": sold.code,
            "bought_asset": row.market.bought_asset.code,
            "state": row.state,
            "state_reason": row.state_reason,
            "amount": _amount(row.amount_units, sold.decimals),
            "total_budget": _amount(row.total_budget_units, sold.decimals),
            "schedule_kind": row.schedule_kind,
            "interval": row.interval,
            "local_time": row.local_time,
            "weekdays": row.weekdays,
            "month_day": row.month_day,
            "cron": row.cron,
            "time_zone": row.zone,
            "start_at": row.start_at,
            "end_at": row.end_at,
            "max_runs": row.max_runs,
            "created_at": row.created_at,
        }


def _slots(user_id: UUID) -> Iterator[Row]:
    """The decision record goes with each: it says why this person's money was spent, or not."""
    rows = Slot.objects.filter(owner_id=user_id).select_related(*_MARKET).order_by("created_at", "id")
    for row in rows.iterator(chunk_size=CHUNK):
        sold, bought = row.market.sold_asset, row.market.bought_asset
        yield {
            "id": row.pk,
            "plan_id": row.plan_id,
            "number": row.number,
            "scheduled_at": row.scheduled_at,
            "state": row.state,
            "reason": row.reason,
            "sold_asset": sold.code,
            "bought_asset": bought.code,
            "amount": _amount(row.amount_units, sold.decimals),
            "fee": _amount(row.fee_units, sold.decimals),
            "received": _amount(row.received_units, bought.decimals),
            "decision": row.decision,
            "closed_at": row.closed_at,
        }


section_register("plans", _plans)
section_register("slots", _slots)
