"""What people learn about their deposits: one event per change of state, with the same facts in each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.chain.models import Network
from apps.core.models import Asset
from apps.deposits.models import Deposit
from apps.events.services import EventDraft


@dataclass(frozen=True, slots=True)
class Names:
    """What ids are called: two small tables, read once per step."""

    assets: dict[UUID, str]
    networks: dict[UUID, str]

    @classmethod
    def read(cls) -> "Names":
        return cls(
            dict(Asset.objects.values_list("id", "code")), dict(Network.objects.values_list("id", "name"))
        )


def drafts(topic: str, rows: Iterable[Deposit], names: Names) -> list[EventDraft]:
    """`deposit.<topic>` for each row, told to its person."""
    return [draft(topic, row, names) for row in rows]


def draft(topic: str, row: Deposit, names: Names, **more: Any) -> EventDraft:
    """Amounts are strings of base units; `more` is what only this topic says."""
    payload = {
        "deposit_id": str(row.pk),
        "network": names.networks[row.network_id],
        "asset": names.assets[row.asset_id] if row.asset_id else None,
        "contract": row.contract,
        "amount_units": str(row.amount_units),
        "transaction_hash": row.transaction_hash,
        "block_number": row.block_number,
        **more,
    }
    return EventDraft(f"deposit.{topic}", "person", row.user_id, payload, "deposit", row.pk)
