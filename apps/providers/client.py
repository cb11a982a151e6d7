"""The only place of this app that speaks to a chain: several reads at one block, in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from apps.chain import services as chain


@dataclass(frozen=True, slots=True)
class ChainView:
    """Answers that were all true at one block. An answer of None is a call that reverted.

    `gas_price_units` is what a unit of gas costs there, base fee and usual tip, in native base units.
    """

    block_number: int
    block_at: datetime
    gas_price_units: int
    answers: list[bytes | None]


def chain_view(*, network_id: UUID, calls: Sequence[tuple[str, str]]) -> ChainView:
    """The latest block, and `calls` ((contract, call data) pairs) at it; raises chain's retryable errors."""
    seen = chain.calls_at_head_read(
        network_id=network_id, calls=[chain.Call(to=to, data=data) for to, data in calls]
    )
    return ChainView(
        block_number=seen.header.number,
        block_at=datetime.fromtimestamp(seen.header.timestamp, tz=UTC),
        gas_price_units=seen.header.base_fee_units + seen.priority_fee_units,
        answers=[answer if isinstance(answer, bytes) else None for answer in seen.answers],
    )
