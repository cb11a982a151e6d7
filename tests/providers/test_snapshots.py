"""The stored price per market: fresh, exact, and never held back by another market."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from apps.chain.services import endpoint_add
from apps.providers.models import PriceFeed, PriceSnapshot
from apps.providers.selectors import snapshots_latest
from apps.providers.services import price_snapshots_refresh, reference_price_read
from apps.sandbox.market import Market as Maker
from tests.providers.support import House


def test_snapshot_holds_the_reference_price_and_is_replaced(house: House, market: Maker) -> None:
    pair = house.market("USDC", "WETH")
    house.v2_route(pair)
    assert price_snapshots_refresh().refreshed == 1
    first = snapshots_latest(market_ids=[pair.pk])[pair.pk]
    assert first.ratio == reference_price_read(market_id=pair.pk).ratio
    # 1e18 wei cost 2500 USDC, and a V2 swap over one hop burns about 135,000 of gas
    assert first.gas_ratio.floor(10**18) == 2_500 * 10**6
    assert first.swap_gas_units == 135_000
    assert first.block_number == house.node.block_number()
    # when the price moves
    market.push_price(symbol="WETH", price=Decimal(3_000))
    price_snapshots_refresh()
    # then the one row says so
    second = snapshots_latest(market_ids=[pair.pk])[pair.pk]
    assert second.ratio.inverse().floor(10**18) == 3_000 * 10**6
    assert second.observed_at >= first.observed_at
    assert PriceSnapshot.objects.count() == 1


def test_bad_feed_holds_back_its_own_market_only(house: House, market: Maker) -> None:
    weth, wbtc, link = (house.market("USDC", code) for code in ("WETH", "WBTC", "LINK"))
    price_snapshots_refresh()
    market.push_price(symbol="WBTC", price=Decimal(61_000))
    market.chain.write(house.deployment.feeds["LINK"], "push(int256)", -5)
    PriceFeed.objects.filter(asset=house.assets["WETH"]).delete()
    # when
    result = price_snapshots_refresh()
    # then WBTC's is new, and the two others keep what they had
    assert result.refreshed == 1
    assert set(result.failed) == {weth.pk, link.pk}
    assert "no price feed" in result.failed[weth.pk]
    assert "nonsense" in result.failed[link.pk]
    found = snapshots_latest(market_ids=[weth.pk, wbtc.pk, link.pk])
    assert found[wbtc.pk].ratio.inverse().floor(10**8) == 61_000 * 10**6
    assert found[link.pk].ratio.inverse().floor(10**18) == 15 * 10**6
    assert found[wbtc.pk].block_number > found[link.pk].block_number


def test_network_that_does_not_answer_keeps_the_old_prices(house: House) -> None:
    pair = house.market("USDC", "WETH")
    price_snapshots_refresh()
    endpoint_add(network_id=house.network.pk, name="anvil", url="http://127.0.0.1:9")
    result = price_snapshots_refresh()
    assert (result.refreshed, set(result.failed)) == (0, {pair.pk})
    assert pair.pk in snapshots_latest(market_ids=[pair.pk])


def test_closed_markets_are_not_priced(house: House) -> None:
    house.market("USDC", "WETH", enabled=False)
    assert price_snapshots_refresh().refreshed == 0
    assert not PriceSnapshot.objects.exists()


@pytest.mark.parametrize("codes", [["WETH"], ["WETH", "WBTC", "LINK"]])
def test_refresh_takes_the_same_queries_for_any_number_of_markets(
    house: House, codes: list[str], django_assert_num_queries: Callable[..., Any]
) -> None:
    for code in codes:
        house.v2_route(house.market("USDC", code))
    price_snapshots_refresh()
    with django_assert_num_queries(4) as queries:
        price_snapshots_refresh()
    assert sum("providers_" in query["sql"] for query in queries.captured_queries) == 3
