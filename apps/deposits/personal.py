"""What deposits know about a person, for their export."""

from collections.abc import Iterator
from uuid import UUID

from apps.accounts.exports import CHUNK, Row, section_register
from apps.core.api.amounts import amount_format
from apps.deposits.models import Deposit, DepositAddress


def _addresses(user_id: UUID) -> Iterator[Row]:
    yield from DepositAddress.objects.filter(user_id=user_id).values("id", "address", "created_at")


def _deposits(user_id: UUID) -> Iterator[Row]:
    rows = Deposit.objects.filter(user_id=user_id).select_related("asset", "network", "address")
    for row in rows.order_by("created_at", "id").iterator(chunk_size=CHUNK):
        places = row.asset.decimals if row.asset else 0
        yield {
            "id": row.pk,
            "network": row.network.name,
            # Of a token that is not registered the decimals are not known: these are base units then.
            "asset": row.asset.code if row.asset else None,
            "contract": row.contract or None,
            "address": row.address.address,
            "sender": row.sender,
            "transaction_hash": row.transaction_hash,
            "position": row.position,
            "amount": amount_format(row.amount_units, decimals=places),
            "credited": amount_format(row.credited_units, decimals=places),
            "owed": amount_format(row.owed_units, decimals=places),
            "state": row.state,
            "reason": row.reason,
            "block_number": row.block_number,
            "created_at": row.created_at,
            "credited_at": row.credited_at,
        }


section_register("deposit_addresses", _addresses)
section_register("deposits", _deposits)
