"""Quotes against what the real contracts then do, to the unit."""

from collections.abc import Callable
from typing import Any

import pytest

from apps.core.errors import Terminal
from apps.providers.errors import FillMissing, NoRoute, RouteInvalid
from apps.providers.models import Market
from apps.providers.services import fill_read, quotes_best, route_add, swap_build
from tests.providers.support import House, Trader, deadline

Route = Callable[[House, Market], object]

ROUTES: dict[str, tuple[str, str, Route]] = {
    "V2, one hop": ("USDC", "WETH", lambda house, market: house.v2_route(market)),
    "V2, two hops": ("USDC", "WBTC", lambda house, market: house.v2_route(market, via=["WETH"])),
    "V2, 18 to 6 decimals": ("WETH", "USDC", lambda house, market: house.v2_route(market)),
    "V3, one hop at 0.3 %": ("USDC", "WETH", lambda house, market: house.v3_route(market, 3000)),
    "V3, one hop at 0.05 %": ("USDC", "WBTC", lambda house, market: house.v3_route(market, 500)),
    "V3, two hops": ("USDC", "WBTC", lambda house, market: house.v3_route(market, 500, 3000, via=["WETH"])),
    "V3, 18 to 6 decimals": ("WETH", "USDC", lambda house, market: house.v3_route(market, 3000)),
}


@pytest.mark.parametrize("amount", [1, 1_000, 12_345])
@pytest.mark.parametrize("name", ROUTES)
def test_executed_fill_equals_the_quote_to_the_unit(
    house: House, trader: Trader, name: str, amount: int
) -> None:
    # given one route and an amount in whole coins (100 at most of the coin that is dear)
    sold, bought, add = ROUTES[name]
    market = house.market(sold, bought)
    add(house, market)
    units = house.units(sold, amount if sold == "USDC" else min(amount, 100))
    before = trader.balance(sold), trader.balance(bought)
    # when the best quote is executed with the quoted amount as its floor
    quote = quotes_best(market_id=market.pk, amount_in_units=units)
    call = swap_build(
        quote=quote, min_out_units=quote.amount_out_units, recipient=trader.address, deadline=deadline()
    )
    receipt = trader.send(call)
    # then the receipt, the balances and the quote agree
    assert receipt["status"] == "0x1"
    fill = fill_read(market_id=market.pk, recipient=trader.address, logs=receipt["logs"])
    assert (fill.amount_in_units, fill.amount_out_units) == (units, quote.amount_out_units)
    assert (before[0] - trader.balance(sold), trader.balance(bought) - before[1]) == (
        units,
        quote.amount_out_units,
    )
    # and the estimate of gas is near enough to choose a route by, and its limit far enough to be safe
    used = int(receipt["gasUsed"], 16)
    assert abs(quote.gas_units - used) * 100 < used * 12
    assert used * 3 < call.gas_limit * 2


def test_floor_and_deadline_are_enforced_on_chain(house: House, trader: Trader) -> None:
    for add in (house.v2_route, lambda market: house.v3_route(market, 3000)):
        market = Market.objects.first() or house.market("USDC", "WETH")
        market.routes.all().delete()
        add(market)
        quote = quotes_best(market_id=market.pk, amount_in_units=house.units("USDC", 1_000))
        before = trader.balance("USDC")
        over = swap_build(
            quote=quote,
            min_out_units=quote.amount_out_units + 1,
            recipient=trader.address,
            deadline=deadline(),
        )
        late = swap_build(quote=quote, min_out_units=1, recipient=trader.address, deadline=quote.quoted_block)
        for call in (over, late):
            receipt = trader.send(call)
            assert receipt["status"] == "0x0"
            with pytest.raises(FillMissing):
                fill_read(market_id=market.pk, recipient=trader.address, logs=receipt["logs"])
        assert trader.balance("USDC") == before


def test_fill_counts_only_the_two_tokens_and_only_the_holder(house: House, trader: Trader) -> None:
    # given a swap over two hops, whose receipt also moves WETH between pools
    market = house.market("USDC", "WBTC")
    house.v2_route(market, via=["WETH"])
    quote = quotes_best(market_id=market.pk, amount_in_units=house.units("USDC", 500))
    receipt = trader.send(
        swap_build(quote=quote, min_out_units=1, recipient=trader.address, deadline=deadline())
    )
    # then somebody else's view of the same receipt is no fill
    with pytest.raises(FillMissing):
        fill_read(market_id=market.pk, recipient=house.deployment.accounts[6], logs=receipt["logs"])
    # and a receipt that shows one side only is none either
    usdc = house.deployment.token("USDC").address
    paid_only = [log for log in receipt["logs"] if log["address"].lower() == usdc]
    with pytest.raises(FillMissing):
        fill_read(market_id=market.pk, recipient=trader.address, logs=paid_only)


def test_pool_that_would_fill_a_part_only_is_no_route(house: House) -> None:
    # given more WETH than the pool can take before its price range ends
    market = house.market("WETH", "USDC")
    house.v3_route(market, 500)
    with pytest.raises(NoRoute, match="cannot take the whole amount"):
        quotes_best(market_id=market.pk, amount_in_units=10**40)


def test_swap_without_a_floor_is_never_built(house: House) -> None:
    market = house.market("USDC", "WETH")
    house.v2_route(market)
    quote = quotes_best(market_id=market.pk, amount_in_units=house.units("USDC", 1))
    with pytest.raises(Terminal, match="minimum"):
        swap_build(quote=quote, min_out_units=0, recipient=house.v2.router_address, deadline=deadline())
    with pytest.raises(Terminal, match="positive"):
        quotes_best(market_id=market.pk, amount_in_units=0)


@pytest.mark.parametrize(
    "fields",
    [
        {"venue": "v2", "pool_fees": [3000]},
        {"venue": "v3", "pool_fees": []},
        {"venue": "v3", "pool_fees": [3000, 500]},
        {"venue": "v3", "pool_fees": [1_000_000]},
        {"venue": "v2", "via": ["USDC"]},
    ],
)
def test_route_that_does_not_fit_its_venue_is_refused(house: House, fields: dict[str, Any]) -> None:
    market = house.market("USDC", "WETH")
    venue = house.v2 if fields["venue"] == "v2" else house.v3
    via = [house.deployment.token(code).address for code in fields.get("via", ())]
    with pytest.raises(RouteInvalid):
        route_add(market_id=market.pk, venue_id=venue.pk, pool_fees=fields.get("pool_fees", ()), via=via)
    assert not market.routes.exists()


def test_quote_costs_few_queries(house: House, django_assert_num_queries: Callable[..., Any]) -> None:
    market = house.market("USDC", "WETH")
    house.v2_route(market)
    house.v3_route(market, 3000)
    house.v3_route(market, 500)
    quotes_best(market_id=market.pk, amount_in_units=1_000_000)
    # Market, routes, breaker, health noted; two more each time the chain's endpoints are looked up.
    with django_assert_num_queries(5) as queries:
        quotes_best(market_id=market.pk, amount_in_units=1_000_000)
    assert sum("providers_" in query["sql"] for query in queries.captured_queries) == 4
