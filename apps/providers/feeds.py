"""Chainlink-shaped price feeds: what to ask, and which answers to refuse.

Source: `AggregatorV3Interface` (`latestRoundData`, `decimals`); Chainlink's notes on stale rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from apps.chain import abi
from apps.providers.domain import FeedAnswer
from apps.providers.errors import ReferenceUnavailable

# Beyond any price that makes sense; keeps ratios inside NUMERIC(78,0) whatever a broken feed says.
_ANSWER_MAX = 1 << 96
_DECIMALS_MAX = 24
CALLS_PER_FEED = 2


@dataclass(frozen=True, slots=True)
class FeedSpec:
    """A feed as configured."""

    asset_id: UUID
    asset_code: str
    aggregator: str
    quote_currency: str
    max_age_seconds: int


def feed_calls(feed: FeedSpec) -> list[tuple[str, str]]:
    """The (contract, call data) pairs that `feed_read` reads, `CALLS_PER_FEED` of them."""
    return [
        (feed.aggregator, abi.call_data("latestRoundData()", [])),
        (feed.aggregator, abi.call_data("decimals()", [])),
    ]


def feed_read(feed: FeedSpec, answers: Sequence[bytes | None], *, block_at: datetime) -> FeedAnswer:
    """The feed's latest round, if it may be trusted at `block_at` (the chain's clock, not ours).

    `answers` are the results of `feed_calls`, None where the call reverted. Raises `ReferenceUnavailable` for
    an answer that is not positive, too old, from an unfinished round, or carried over from an earlier one.
    """
    round_data, decimals_data = answers
    if round_data is None or decimals_data is None:
        raise ReferenceUnavailable(f"the price feed of {feed.asset_code} does not answer")
    try:
        round_id, answer, _, updated, answered_in = abi.decode(
            ["uint80", "int256", "uint256", "uint256", "uint80"], round_data
        )
        (decimals,) = abi.decode(["uint8"], decimals_data)
    except Exception as error:
        raise ReferenceUnavailable(f"the price feed of {feed.asset_code} answers no round") from error
    if not 0 < answer <= _ANSWER_MAX or decimals > _DECIMALS_MAX:
        raise ReferenceUnavailable(f"the price feed of {feed.asset_code} answers nonsense")
    if updated == 0 or answered_in < round_id:
        raise ReferenceUnavailable(f"the latest round of {feed.asset_code} is not complete")
    age = int(block_at.timestamp()) - updated
    if age < 0:
        raise ReferenceUnavailable(f"the price of {feed.asset_code} is from the future")
    if age > feed.max_age_seconds:
        raise ReferenceUnavailable(f"the price of {feed.asset_code} is {age} s old")
    return FeedAnswer(
        asset_id=feed.asset_id,
        aggregator=feed.aggregator,
        round_id=round_id,
        answer=answer,
        decimals=decimals,
        updated_at=datetime.fromtimestamp(updated, tz=UTC),
    )
