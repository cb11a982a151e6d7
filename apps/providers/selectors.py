"""Reads: markets with everything a quote needs in one query, usable routes, the latest prices."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.core.api.pagination import Page, PageQuery, keyset_page
from apps.core.errors import NotFound, Terminal
from apps.core.models import Asset
from apps.providers.domain import Ratio, RouteSpec
from apps.providers.feeds import FeedSpec
from apps.providers.models import Market, MarketRoute, PriceFeed, PriceSnapshot, Venue


@dataclass(frozen=True, slots=True)
class MarketSpec:
    """A market as pure values: its assets, their tokens and feeds, and the network's gas coin."""

    market_id: UUID
    network_id: UUID
    name: str
    enabled: bool
    min_trade_units: int
    guard_bps: int
    max_batch_slots: int
    sold_asset_id: UUID
    sold_code: str
    sold_decimals: int
    sold_token: str
    sold_feed: FeedSpec | None
    bought_asset_id: UUID
    bought_code: str
    bought_decimals: int
    bought_token: str
    bought_feed: FeedSpec | None
    native_asset_id: UUID
    native_code: str
    native_decimals: int
    native_feed: FeedSpec | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The latest reference price of a market, from our own table.

    `ratio` is bought units per sold unit, `gas_ratio` sold units per native base unit.
    """

    market_id: UUID
    ratio: Ratio
    gas_ratio: Ratio
    gas_price_units: int
    swap_gas_units: int
    block_number: int
    observed_at: datetime
    refreshed_at: datetime


_MARKET_RELATIONS = (
    "network__native_asset__price_feed",
    "sold_asset__token",
    "sold_asset__price_feed",
    "bought_asset__token",
    "bought_asset__price_feed",
)


def market_get(*, market_id: UUID) -> Market:
    """The market with its assets; raises `NotFound`. One query."""
    market = Market.objects.select_related("sold_asset", "bought_asset").filter(pk=market_id).first()
    if market is None:
        raise NotFound("No such market.")
    return market


def market_spec_get(*, market_id: UUID) -> MarketSpec:
    """Everything about one market; raises `NotFound`. One query."""
    market = Market.objects.select_related(*_MARKET_RELATIONS).filter(pk=market_id).first()
    if market is None:
        raise NotFound("No such market.")
    return _spec(market)


def market_specs_enabled() -> list[MarketSpec]:
    """All markets that are open for trade, oldest first. One query."""
    return [
        _spec(market) for market in Market.objects.select_related(*_MARKET_RELATIONS).filter(enabled=True)
    ]


def markets_enabled() -> QuerySet[Market]:
    """Open markets with assets, network, gas coin and latest price."""
    return Market.objects.select_related(
        "network__native_asset", "sold_asset", "bought_asset", "price_snapshot"
    ).filter(enabled=True)


def market_page(*, query: PageQuery) -> Page[Market]:
    """A page of open markets, newest first. One query."""
    return keyset_page(markets_enabled(), query=query)


def market_enabled_get(*, market_id: UUID) -> Market:
    """An open market with assets and price; raises `NotFound`. One query."""
    market = markets_enabled().filter(pk=market_id).first()
    if market is None:
        raise NotFound("No such market.")
    return market


def market_for_pair(*, sold_code: str, bought_code: str) -> Market:
    """The enabled market of two asset codes with its assets and price; raises `NotFound`. One query.

    An asset lives on one network, so that a pair of assets names one market.
    """
    market = (
        markets_enabled()
        .filter(sold_asset__code=sold_code, bought_asset__code=bought_code)
        .order_by("created_at", "id")
        .first()
    )
    if market is None:
        raise NotFound("No market sells the one asset for the other.")
    return market


def asset_page(*, query: PageQuery) -> Page[Asset]:
    """A page of all assets with their tokens, newest first. One query."""
    return keyset_page(Asset.objects.select_related("token__network", "native_network"), query=query)


def venues_list() -> QuerySet[Venue]:
    """Enabled venues with network and health."""
    return (
        Venue.objects.filter(enabled=True)
        .select_related("network", "health")
        .order_by("network__name", "name")
    )


def routes_usable(*, market_id: UUID) -> list[RouteSpec]:
    """Enabled routes of enabled venues, oldest first: the order that breaks ties. One query."""
    return [
        route_spec(route)
        for route in MarketRoute.objects.select_related("venue")
        .filter(market_id=market_id, enabled=True, venue__enabled=True)
        .order_by("created_at", "id")
    ]


def snapshots_latest(*, market_ids: Sequence[UUID]) -> dict[UUID, Snapshot]:
    """The stored price of each market that has one. One query."""
    return {row.pk: snapshot_of(row) for row in PriceSnapshot.objects.filter(market_id__in=market_ids)}


def native_ratios(*, network_id: UUID, since: datetime) -> dict[UUID, Ratio]:
    """Each asset's base units per native base unit, by reference prices that were true after `since`. One query.

    Assets that no enabled market of the network trades are not there.
    """
    ratios: dict[UUID, Ratio] = {}
    for row in (
        PriceSnapshot.objects.select_related("market")
        .filter(market__network_id=network_id, market__enabled=True, observed_at__gte=since)
        .order_by("observed_at")
    ):
        sold, price = Ratio(row.gas_numerator, row.gas_denominator), Ratio(row.numerator, row.denominator)
        ratios[row.market.sold_asset_id] = sold
        ratios[row.market.bought_asset_id] = Ratio(
            sold.numerator * price.numerator, sold.denominator * price.denominator
        )
    return ratios


def snapshot_of(row: PriceSnapshot) -> Snapshot:
    """A stored price as a value."""
    return Snapshot(
        market_id=row.market_id,
        ratio=Ratio(row.numerator, row.denominator),
        gas_ratio=Ratio(row.gas_numerator, row.gas_denominator),
        gas_price_units=row.gas_price_units,
        swap_gas_units=row.swap_gas_units,
        block_number=row.block_number,
        observed_at=row.observed_at,
        refreshed_at=row.refreshed_at,
    )


def route_spec(route: MarketRoute) -> RouteSpec:
    """A route, with its venue loaded, as a value."""
    return RouteSpec(
        route_id=route.pk,
        venue_id=route.venue_id,
        kind=route.venue.kind,
        router=route.venue.router_address,
        quoter=route.venue.quoter_address,
        path=tuple(route.path),
        pool_fees=tuple(route.pool_fees),
    )


def _spec(market: Market) -> MarketSpec:
    sold, bought, native = market.sold_asset, market.bought_asset, market.network.native_asset
    return MarketSpec(
        market_id=market.pk,
        network_id=market.network_id,
        name=f"{sold.code}/{bought.code}",
        enabled=market.enabled,
        min_trade_units=market.min_trade_units,
        guard_bps=market.guard_bps,
        max_batch_slots=market.max_batch_slots,
        sold_asset_id=sold.pk,
        sold_code=sold.code,
        sold_decimals=sold.decimals,
        sold_token=_token_address(sold),
        sold_feed=_feed(sold),
        bought_asset_id=bought.pk,
        bought_code=bought.code,
        bought_decimals=bought.decimals,
        bought_token=_token_address(bought),
        bought_feed=_feed(bought),
        native_asset_id=native.pk,
        native_code=native.code,
        native_decimals=native.decimals,
        native_feed=_feed(native),
    )


def _token_address(asset: Asset) -> str:
    token = getattr(asset, "token", None)
    if token is None:
        raise Terminal(f"{asset.code} is no token of this network")
    return str(token.address)


def _feed(asset: Asset) -> FeedSpec | None:
    feed: PriceFeed | None = getattr(asset, "price_feed", None)
    if feed is None:
        return None
    return FeedSpec(
        asset_id=asset.pk,
        asset_code=asset.code,
        aggregator=feed.aggregator_address,
        quote_currency=feed.quote_currency,
        max_age_seconds=feed.max_age_seconds,
    )


@dataclass(frozen=True, slots=True)
class GasPrice:
    """What gas costs, as stored last: `ratio` is units of an asset per wei, `price_units` wei per unit of gas."""

    ratio: Ratio
    price_units: int
    refreshed_at: datetime


def gas_price_latest(*, asset_id: UUID, network_id: UUID) -> GasPrice | None:
    """The newest stored price of gas in an asset, from any open market that has it; None when there is none.

    Gas in the native coin is gas: then any market of the network tells what a unit costs. Two queries at most.
    """
    snapshots = PriceSnapshot.objects.select_related("market__network").filter(
        market__enabled=True, market__network_id=network_id
    )
    native = snapshots.filter(market__network__native_asset_id=asset_id).order_by("-refreshed_at").first()
    if native is not None:
        return GasPrice(Ratio(1, 1), native.gas_price_units, native.refreshed_at)
    row = (
        snapshots.filter(Q(market__sold_asset_id=asset_id) | Q(market__bought_asset_id=asset_id))
        .order_by("-refreshed_at", "pk")
        .first()
    )
    if row is None:
        return None
    ratio = Ratio(row.gas_numerator, row.gas_denominator)
    if row.market.sold_asset_id != asset_id:
        # Bought per native = (bought per sold) x (sold per native).
        ratio = Ratio(ratio.numerator * row.numerator, ratio.denominator * row.denominator)
    return GasPrice(ratio, row.gas_price_units, row.refreshed_at)


def contracts_used(*, addresses: Collection[str]) -> set[str]:
    """Those of `addresses` that are contracts we trade with or read prices from, on any network."""
    found: set[str] = set()
    for column in ("router_address", "factory_address", "quoter_address"):
        found |= set(Venue.objects.filter(**{f"{column}__in": addresses}).values_list(column, flat=True))
    feeds = PriceFeed.objects.filter(aggregator_address__in=addresses)
    return found | set(feeds.values_list("aggregator_address", flat=True))
