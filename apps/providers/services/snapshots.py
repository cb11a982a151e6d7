"""The latest price of every market, kept in a row so that no request waits for a chain. Called by beat."""

import logging
from dataclasses import dataclass, field
from uuid import UUID

from apps.core import clock
from apps.core.errors import Retryable
from apps.providers import selectors
from apps.providers.adapters import adapter_for
from apps.providers.client import ChainView, chain_view
from apps.providers.domain import FeedAnswer, Ratio, ReferencePrice
from apps.providers.errors import ReferenceUnavailable
from apps.providers.feeds import FeedSpec
from apps.providers.models import MarketRoute, PriceSnapshot
from apps.providers.selectors import MarketSpec
from apps.providers.services.reference import answers_of, feed_calls, feeds_of, reference_of

logger = logging.getLogger(__name__)

# What a market without a usable route is assumed to burn: one hop through either kind of venue.
_SWAP_GAS_UNITS = 130_000


@dataclass(frozen=True, slots=True)
class Refreshed:
    """How many snapshots are fresh, and why each other market's is not (its old row stays)."""

    refreshed: int
    failed: dict[UUID, str] = field(default_factory=dict)


def price_snapshots_refresh() -> Refreshed:
    """Read all feeds of all enabled markets, one batch per network, and store what may be trusted.

    Three queries whatever the number of markets. One market's bad feed, or one network's silence, holds back
    no other market. Two at once do no harm: each writes what it saw, the later one wins.
    """
    markets = selectors.market_specs_enabled()
    gas_units = _swap_gas_units([market.market_id for market in markets])
    failed: dict[UUID, str] = {}
    rows: list[PriceSnapshot] = []
    for network_id in dict.fromkeys(market.network_id for market in markets):
        of_network = [market for market in markets if market.network_id == network_id]
        wanted = _feeds_wanted(of_network, failed)
        try:
            view = chain_view(network_id=network_id, calls=feed_calls(wanted))
        except Retryable as error:
            failed.update({market.market_id: str(error) for market in of_network})
            continue
        read = answers_of(wanted, view)
        for market in of_network:
            if market.market_id in failed:
                continue
            try:
                rows.append(_row(market, read, view, gas_units.get(market.market_id, _SWAP_GAS_UNITS)))
            except ReferenceUnavailable as error:
                failed[market.market_id] = str(error)
    PriceSnapshot.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["market"],
        update_fields=[name.name for name in PriceSnapshot._meta.fields if not name.primary_key],
    )
    if failed:
        logger.warning(
            "prices not refreshed", extra={"markets": len(failed), "why": sorted(set(failed.values()))}
        )
    return Refreshed(refreshed=len(rows), failed=failed)


def _feeds_wanted(markets: list[MarketSpec], failed: dict[UUID, str]) -> list[FeedSpec]:
    wanted: dict[UUID, FeedSpec] = {}
    for market in markets:
        try:
            wanted.update({feed.asset_id: feed for feed in feeds_of(market)})
        except ReferenceUnavailable as error:
            failed[market.market_id] = str(error)
    return list(wanted.values())


def _row(
    market: MarketSpec, read: dict[UUID, FeedAnswer | ReferenceUnavailable], view: ChainView, gas_units: int
) -> PriceSnapshot:
    reference: ReferencePrice = reference_of(market, read, block_number=view.block_number)
    # Sold per native = (bought per native) / (bought per sold).
    gas = Ratio(
        reference.native.numerator * reference.denominator, reference.native.denominator * reference.numerator
    )
    return PriceSnapshot(
        market_id=market.market_id,
        numerator=reference.numerator,
        denominator=reference.denominator,
        gas_numerator=gas.numerator,
        gas_denominator=gas.denominator,
        gas_price_units=view.gas_price_units,
        swap_gas_units=gas_units,
        block_number=view.block_number,
        observed_at=reference.observed_at,
        refreshed_at=clock.now(),
    )


def _swap_gas_units(market_ids: list[UUID]) -> dict[UUID, int]:
    """The cheapest estimate among each market's routes."""
    cheapest: dict[UUID, int] = {}
    routes = MarketRoute.objects.select_related("venue").filter(
        market_id__in=market_ids, enabled=True, venue__enabled=True
    )
    for route in routes:
        units = adapter_for(route.venue.kind).gas_estimate(len(route.path) - 1)
        cheapest[route.market_id] = min(units, cheapest.get(route.market_id, units))
    return cheapest
