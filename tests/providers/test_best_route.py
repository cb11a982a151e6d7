"""Which route wins, and why: price, depth, and gas."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest

from apps.core import clock
from apps.providers.domain import RouteSpec
from apps.providers.errors import NoRoute
from apps.providers.models import MarketRoute, Venue
from apps.providers.services import quotes_best, venue_enable
from apps.sandbox.market import Market as Maker
from tests.providers.support import House

GWEI = 10**9


def test_best_route_flips_when_a_pool_moves(house: House, market: Maker) -> None:
    # given the same pair at 0.3 % on V2 and at 0.05 % on V3
    pair = house.market("USDC", "WETH")
    v2, v3 = house.v2_route(pair), house.v3_route(pair, 500)
    amount = house.units("USDC", 1_000)
    # then the lower fee wins
    assert quotes_best(market_id=pair.pk, amount_in_units=amount).route.route_id == v3
    # and when that pool asks one per cent more for a WETH, the other wins
    pool = house.deployment.pool(venue="uniswap_v3", tokens=("USDC", "WETH"), fee_pips=500)
    market.move_pool(pool, base="WETH", price=Decimal(2_525))
    assert quotes_best(market_id=pair.pk, amount_in_units=amount).route.route_id == v2


def test_best_route_flips_with_the_depth_of_the_pools(house: House, market: Maker) -> None:
    # given a V2 pool that is made many times deeper than V3's
    pair = house.market("USDC", "WETH")
    v2, v3 = house.v2_route(pair), house.v3_route(pair, 500)
    small, large = house.units("USDC", 1_000), house.units("USDC", 20_000_000)
    shallow = quotes_best(market_id=pair.pk, amount_in_units=large)
    assert shallow.route.route_id == v3
    usdc, weth = house.deployment.token("USDC").address, house.deployment.token("WETH").address
    market.chain.write(
        house.v2.router_address,
        "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)",
        *(usdc, weth, house.units("USDC", 2_000_000_000), house.units("WETH", 800_000), 1, 1),
        *(market.chain.sender, 2**63),
    )
    # then a large amount goes where there is depth, a small one still where the fee is low
    deep = quotes_best(market_id=pair.pk, amount_in_units=large)
    assert deep.route.route_id == v2
    assert deep.amount_out_units > shallow.amount_out_units
    assert quotes_best(market_id=pair.pk, amount_in_units=small).route.route_id == v3


def test_best_route_flips_with_the_price_of_gas(house: House, market: Maker) -> None:
    # given a direct pool that is a little dearer than the way over WETH, which burns more gas
    pair = house.market("USDC", "WBTC")
    direct = house.v2_route(pair)
    around = house.v3_route(pair, 500, 3000, via=["WETH"])
    pool = house.deployment.pool(venue="uniswap_v2", tokens=("USDC", "WBTC"))
    market.move_pool(pool, base="WBTC", price=Decimal(60_180))
    amount = house.units("USDC", 1_000)
    # when gas is nearly free, the better price wins
    house.node.base_fee_set(wei=GWEI // 100)
    house.node.mine()
    cheap = quotes_best(market_id=pair.pk, amount_in_units=amount)
    # and when gas is dear, the shorter way
    house.node.base_fee_set(wei=100 * GWEI)
    house.node.mine()
    dear = quotes_best(market_id=pair.pk, amount_in_units=amount)
    # then
    assert (cheap.route.route_id, dear.route.route_id) == (around, direct)
    assert cheap.amount_out_units > dear.amount_out_units
    tip = int(house.node.rpc.call("eth_maxPriorityFeePerGas"), 16)
    assert dear.gas_price_units == 100 * GWEI + tip
    assert tip > 0
    # and the net is the amount minus the gas at the reference price, rounded against the route
    gas_units = dear.reference.native.ceil(dear.gas_units * dear.gas_price_units)
    assert dear.net_units == dear.amount_out_units - gas_units
    assert {entry["route_id"] for entry in dear.considered} == {str(direct), str(around)}


def test_equal_routes_go_to_the_older_one(house: House) -> None:
    # given the same contracts under two venues' names, told apart by the case of an address only
    pair = house.market("USDC", "WETH")
    first = house.v2_route(pair)
    router = house.v2.router_address
    twin = Venue.objects.create(
        network=house.network,
        kind=Venue.Kind.UNISWAP_V2,
        name="Twin",
        router_address="0x" + router[2:].upper(),
        factory_address=house.v2.factory_address,
    )
    second = MarketRoute.objects.create(
        market=pair, venue=twin, path=MarketRoute.objects.get(pk=first).path, created_at=clock.now()
    )
    assert quotes_best(market_id=pair.pk, amount_in_units=10**6).route.route_id == first
    # when the younger becomes the older
    MarketRoute.objects.filter(pk=second.pk).update(created_at=clock.now() - timedelta(days=1))
    assert quotes_best(market_id=pair.pk, amount_in_units=10**6).route.route_id == second.pk


def test_disabled_routes_and_venues_are_not_asked(house: House) -> None:
    pair = house.market("USDC", "WETH")
    v2, v3 = house.v2_route(pair), house.v3_route(pair, 500)
    assert venue_enable(venue_ids=[house.v3.pk], enabled=False) == 1
    assert venue_enable(venue_ids=[house.v3.pk], enabled=False) == 0
    assert quotes_best(market_id=pair.pk, amount_in_units=10**6).route.route_id == v2
    MarketRoute.objects.filter(pk=v2).update(enabled=False)
    with pytest.raises(NoRoute):
        quotes_best(market_id=pair.pk, amount_in_units=10**6)
    venue_enable(venue_ids=[house.v3.pk], enabled=True)
    assert quotes_best(market_id=pair.pk, amount_in_units=10**6).route.route_id == v3


def test_one_bad_route_does_not_spoil_the_others(house: House) -> None:
    pair = house.market("USDC", "WETH")
    house.v3_route(pair, 10_000)  # a pool that does not exist
    good = house.v3_route(pair, 500)
    quote = quotes_best(market_id=pair.pk, amount_in_units=10**6)
    assert quote.route.route_id == good
    assert [entry.get("unusable") for entry in quote.considered] == ["the venue's contract reverted", None]


def test_quote_survives_json_with_every_unit(house: House) -> None:
    pair = house.market("USDC", "WETH")
    house.v3_route(pair, 500)
    quote = quotes_best(market_id=pair.pk, amount_in_units=house.units("USDC", 1_000))
    kept = json.loads(json.dumps(quote.to_json()))
    assert int(kept["amount_out_units"]) == quote.amount_out_units
    assert kept["deviation_bps"] == quote.deviation_bps
    assert RouteSpec.from_json(kept["route"]) == quote.route
    assert int(kept["reference"]["numerator"]) == quote.reference.numerator
