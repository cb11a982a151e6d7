"""What operators (and the sandbox) decide: which routes exist, and what is switched on."""

from collections.abc import Sequence
from uuid import UUID

from apps.core.errors import NotFound
from apps.providers import selectors
from apps.providers.adapters import adapter_for
from apps.providers.breaker import breaker_record
from apps.providers.errors import RouteInvalid
from apps.providers.models import Market, MarketRoute, Venue


def route_add(
    *, market_id: UUID, venue_id: UUID, pool_fees: Sequence[int] = (), via: Sequence[str] = ()
) -> MarketRoute:
    """Add a route from the market's sold token over `via` (token addresses) to its bought one, or return it.

    `pool_fees` are V3's, one per hop, in millionths. Raises `RouteInvalid` when the shape does not fit the
    venue's protocol, the venue is on another network, or the path visits a token twice.
    """
    market = selectors.market_spec_get(market_id=market_id)
    venue = Venue.objects.filter(pk=venue_id).first()
    if venue is None:
        raise NotFound("No such venue.")
    if venue.network_id != market.network_id:
        raise RouteInvalid("the venue is on another network than the market")
    path = [market.sold_token, *(token.lower() for token in via), market.bought_token]
    if len(set(path)) != len(path):
        raise RouteInvalid("a path visits each token once")
    route = MarketRoute(market_id=market_id, venue=venue, path=path, pool_fees=list(pool_fees))
    adapter_for(venue.kind).route_check(selectors.route_spec(route))
    route.clean_fields(exclude=["market", "venue"])
    found, _ = MarketRoute.objects.get_or_create(
        market_id=market_id, venue=venue, path=path, pool_fees=list(pool_fees)
    )
    return found


def market_enable(*, market_ids: Sequence[UUID], enabled: bool) -> int:
    """Open or close markets for trade; returns how many changed. Slots under way end by their own rules."""
    return Market.objects.filter(pk__in=market_ids).exclude(enabled=enabled).update(enabled=enabled)


def venue_enable(*, venue_ids: Sequence[UUID], enabled: bool) -> int:
    """Use venues or leave them out; returns how many changed. Swaps already sent are not touched."""
    return Venue.objects.filter(pk__in=venue_ids).exclude(enabled=enabled).update(enabled=enabled)


def venue_outcome_record(*, venue_id: UUID, error: str = "") -> None:
    """Tell the breaker how a swap ended: an empty `error` is a success, anything else a failure."""
    if error:
        breaker_record(succeeded=[], failed={venue_id: error})
    else:
        breaker_record(succeeded=[venue_id], failed={})
