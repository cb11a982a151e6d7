"""The floors above say that what a transaction meant is in the ledger."""

from collections.abc import Sequence
from uuid import UUID

from apps.chain.models import OutboundTransaction
from apps.core import clock


def transactions_book(*, transaction_ids: Sequence[UUID]) -> int:
    """Mark final transactions as booked, in the caller's database transaction; returns how many were not yet."""
    return OutboundTransaction.objects.filter(pk__in=transaction_ids, booked_at__isnull=True).update(
        booked_at=clock.now()
    )
