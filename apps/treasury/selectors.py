"""Reads: what gas has cost and what is not booked yet."""

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from django.db.models import Sum

from apps.chain.models import OutboundTransaction, Recheck
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account, Entry
from apps.treasury.domain import gas_reference


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


def gas_booked_units(*, transaction_ids: Collection[UUID]) -> dict[UUID, int]:
    """What is booked of each transaction's gas, corrections included; those without a journal are left out.

    Two queries.
    """
    owner = {gas_reference(one): one for one in transaction_ids}
    rechecks = Recheck.objects.filter(transaction_id__in=transaction_ids).values_list("transaction_id", "id")
    owner |= {gas_reference(one, recheck_id): one for one, recheck_id in rechecks}
    entries = Entry.objects.filter(journal__reference__in=list(owner), account__kind=AccountKind.CUSTODY)
    booked: dict[UUID, int] = defaultdict(int)
    for reference, units in entries.values_list("journal__reference", "amount_units"):
        booked[owner[reference]] += int(units)
    return dict(booked)
