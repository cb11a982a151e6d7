"""What withdrawals know about a person, for their export."""

from collections.abc import Iterator
from uuid import UUID

from apps.accounts.exports import CHUNK, Row, section_register
from apps.core.api.amounts import amount_format
from apps.withdrawals.models import Withdrawal, WithdrawalDestination

_LEAN = ("asset", "network")


def _destinations(user_id: UUID) -> Iterator[Row]:
    rows = WithdrawalDestination.objects.filter(user_id=user_id).order_by("created_at", "id")
    names = ("id", "address", "label", "created_at", "usable_at", "removed_at")
    yield from rows.values(*names).iterator(chunk_size=CHUNK)


def _withdrawals(user_id: UUID) -> Iterator[Row]:
    rows = Withdrawal.objects.filter(user_id=user_id).select_related(*_LEAN)
    for row in rows.order_by("created_at", "id").iterator(chunk_size=CHUNK):
        places = row.asset.decimals
        charged = row.charged_units
        yield {
            "id": row.pk,
            "asset": row.asset.code,
            "network": row.network.name,
            "destination": row.destination,
            "amount": amount_format(row.amount_units, decimals=places),
            "fee": amount_format(row.fee_units, decimals=places),
            "fee_charged": None if charged is None else amount_format(charged, decimals=places),
            "sent": amount_format(row.sent_units, decimals=places),
            "state": row.state,
            "reason": row.reason,
            "created_at": row.created_at,
            "closed_at": row.closed_at,
        }


section_register("withdrawal_destinations", _destinations)
section_register("withdrawals", _withdrawals)
