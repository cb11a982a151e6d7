"""Reads. A fixed number of queries each; another person's id finds nothing."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Min

from apps.core.api.pagination import Page, PageQuery, keyset_page
from apps.core.errors import NotFound
from apps.core.models import Asset
from apps.withdrawals.models import Withdrawal, WithdrawalDestination

_RELATED = ("asset", "network__native_asset", "transaction__attempt")
# Receipts and signed bytes are thousands of characters each.
_HEAVY = ("transaction__data", "transaction__logs", "transaction__attempt__raw")


@dataclass(frozen=True, slots=True)
class OpenCount:
    """How many withdrawals of an asset stand in a state, why they wait, and since when the oldest does."""

    asset: str
    state: str
    wait_reason: str
    count: int
    oldest_at: datetime


def withdrawal_page(
    *, user_id: UUID, query: PageQuery, state: str = "", asset: Asset | None = None
) -> Page[Withdrawal]:
    """A person's withdrawals, newest first. One query."""
    rows = Withdrawal.objects.select_related(*_RELATED).defer(*_HEAVY).filter(user_id=user_id)
    if state:
        rows = rows.filter(state=state)
    if asset is not None:
        rows = rows.filter(asset=asset)
    return keyset_page(rows, query=query)


def withdrawal_get(*, user_id: UUID, withdrawal_id: UUID) -> Withdrawal:
    """One of a person's withdrawals with its transaction; raises `NotFound`. One query."""
    rows = Withdrawal.objects.select_related(*_RELATED).defer(*_HEAVY)
    row = rows.filter(pk=withdrawal_id, user_id=user_id).first()
    if row is None:
        raise NotFound
    return row


def destination_page(*, user_id: UUID, query: PageQuery) -> Page[WithdrawalDestination]:
    """A person's list of addresses, newest first, without removed ones. One query."""
    return keyset_page(
        WithdrawalDestination.objects.filter(user_id=user_id, removed_at__isnull=True), query=query
    )


def open_counts() -> list[OpenCount]:
    """What is not over, grouped: for metrics and health. One query on the index of open rows."""
    rows = (
        Withdrawal.objects.filter(closed_at__isnull=True)
        .values("asset__code", "state", "wait_reason")
        .annotate(count=Count("pk"), oldest_at=Min("created_at"))
        .order_by("asset__code", "state", "wait_reason")
    )
    return [
        OpenCount(row["asset__code"], row["state"], row["wait_reason"], row["count"], row["oldest_at"])
        for row in rows
    ]
