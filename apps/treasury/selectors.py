"""Reads: what gas has cost and what is not booked yet."""

from uuid import UUID

from django.db.models import Sum

from apps.chain.models import OutboundTransaction
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account


def gas_spent_units(*, asset_id: UUID) -> int:
    """Native base units of gas booked so far: the expense account's balance, as a positive number. One query."""
    total = Account.objects.filter(kind=AccountKind.GAS, asset_id=asset_id).aggregate(
        units=Sum("balance_units")
    )
    return -int(total["units"] or 0)


def gas_unbooked_count() -> int:
    """How many final transactions wait for their gas to be booked. One query."""
    return OutboundTransaction.objects.filter(
        gas_booked_at__isnull=True, gas_used__gt=0, finalized_at__isnull=False
    ).count()
