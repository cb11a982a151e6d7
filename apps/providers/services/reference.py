"""The independent reference price: from price feeds, never from a pool that is traded."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from apps.providers import feeds, selectors
from apps.providers.client import ChainView, chain_view
from apps.providers.domain import FeedAnswer, ReferencePrice, feed_ratio
from apps.providers.errors import ReferenceUnavailable
from apps.providers.feeds import FeedSpec
from apps.providers.selectors import MarketSpec


def reference_price_read(*, market_id: UUID) -> ReferencePrice:
    """The market's reference price at the chain's latest block: one query, one batched read.

    Raises `ReferenceUnavailable` (retryable) when a feed is missing, stale, or answers nonsense.
    """
    market = selectors.market_spec_get(market_id=market_id)
    wanted = feeds_of(market)
    view = chain_view(network_id=market.network_id, calls=feed_calls(wanted))
    return reference_of(market, answers_of(wanted, view), block_number=view.block_number)


def feeds_of(market: MarketSpec) -> list[FeedSpec]:
    """The distinct feeds a market needs: its two assets' and the gas coin's."""
    for code, feed in (
        (market.sold_code, market.sold_feed),
        (market.bought_code, market.bought_feed),
        (market.native_code, market.native_feed),
    ):
        if feed is None:
            raise ReferenceUnavailable(f"{code} has no price feed")
    found = [feed for feed in (market.sold_feed, market.bought_feed, market.native_feed) if feed is not None]
    if len({feed.quote_currency for feed in found}) > 1:
        raise ReferenceUnavailable(f"the feeds of {market.name} are in different currencies")
    return list({feed.asset_id: feed for feed in found}.values())


def feed_calls(wanted: Iterable[FeedSpec]) -> list[tuple[str, str]]:
    return [call for feed in wanted for call in feeds.feed_calls(feed)]


def answers_of(
    wanted: Sequence[FeedSpec], view: ChainView, *, offset: int = 0
) -> dict[UUID, FeedAnswer | ReferenceUnavailable]:
    """Each feed's trusted answer, or why it has none; the feeds' calls start at `offset` in the view."""
    read: dict[UUID, FeedAnswer | ReferenceUnavailable] = {}
    for position, feed in enumerate(wanted):
        start = offset + position * feeds.CALLS_PER_FEED
        try:
            read[feed.asset_id] = feeds.feed_read(
                feed, view.answers[start : start + feeds.CALLS_PER_FEED], block_at=view.block_at
            )
        except ReferenceUnavailable as error:
            read[feed.asset_id] = error
    return read


def reference_of(
    market: MarketSpec,
    read: Mapping[UUID, FeedAnswer | ReferenceUnavailable],
    *,
    block_number: int,
) -> ReferencePrice:
    """A market's price from feeds that were read; raises `ReferenceUnavailable` for the first bad one."""
    trusted: dict[UUID, FeedAnswer] = {}
    for asset_id in (market.sold_asset_id, market.bought_asset_id, market.native_asset_id):
        answer = read[asset_id]
        if isinstance(answer, ReferenceUnavailable):
            raise answer
        trusted[asset_id] = answer
    sold, bought = trusted[market.sold_asset_id], trusted[market.bought_asset_id]
    native = trusted[market.native_asset_id]
    return ReferencePrice(
        ratio=feed_ratio(
            sold=sold,
            bought=bought,
            sold_decimals=market.sold_decimals,
            bought_decimals=market.bought_decimals,
        ),
        native=feed_ratio(
            sold=native,
            bought=bought,
            sold_decimals=market.native_decimals,
            bought_decimals=market.bought_decimals,
        ),
        observed_at=min(sold.updated_at, bought.updated_at),
        block_number=block_number,
        source={"kind": "chainlink", "sold": sold.to_json(), "bought": bought.to_json()},
    )
