"""The independent price: exact when it may be trusted, refused when it may not."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from apps.core.errors import NotFound
from apps.core.ids import uuid7
from apps.providers.errors import ReferenceUnavailable
from apps.providers.models import Market, PriceFeed
from apps.providers.services import quotes_best, reference_price_read
from apps.sandbox.market import Market as Maker
from tests.providers.support import FEED_MAX_AGE_SECONDS, House


@pytest.fixture
def usdc_weth(house: House) -> Market:
    market = house.market("USDC", "WETH")
    house.v2_route(market)
    return market


def test_price_is_exact_and_says_where_it_comes_from(house: House, usdc_weth: Market, market: Maker) -> None:
    # given a coin at a dollar and a coin at 2512.34567891 dollars
    market.push_price(symbol="USDC", price=Decimal("0.9998"))
    market.push_price(symbol="WETH", price=Decimal("2512.34567891"))
    # when
    price = reference_price_read(market_id=usdc_weth.pk)
    # then wei per USDC unit is the quotient of the two answers, with nothing lost
    assert price.numerator * 251_234_567_891 * 10**6 == price.denominator * 99_980_000 * 10**18
    assert price.native.floor(10**18) == 10**18  # a WETH is an ETH
    assert price.block_number == house.node.block_number()
    assert int(price.observed_at.timestamp()) <= house.node.block_at()
    assert price.source["bought"]["answer"] == "251234567891"
    assert price.source["sold"]["aggregator"] == house.deployment.feeds["USDC"]


@pytest.mark.parametrize("symbol", ["USDC", "WETH"])
@pytest.mark.parametrize(
    ("signature", "arguments", "reason"),
    [
        ("push(int256)", (-1,), "nonsense"),
        ("push(int256)", (0,), "nonsense"),
        ("push(int256)", (2**97,), "nonsense"),
        ("pushAt(int256,uint256)", (10**8, 0), "does not answer"),
        ("pushAt(int256,uint256)", (10**8, 1_767_225_600), "s old"),
        ("pushAt(int256,uint256)", (10**8, 2**40), "from the future"),
    ],
)
def test_answer_that_cannot_be_trusted_is_refused(
    house: House,
    usdc_weth: Market,
    market: Maker,
    symbol: str,
    signature: str,
    arguments: tuple[int, ...],
    reason: str,
) -> None:
    market.chain.write(house.deployment.feeds[symbol], signature, *arguments)
    with pytest.raises(ReferenceUnavailable, match=reason):
        reference_price_read(market_id=usdc_weth.pk)
    # and no quote is given without a reference, though the pools would answer
    with pytest.raises(ReferenceUnavailable, match=reason):
        quotes_best(market_id=usdc_weth.pk, amount_in_units=10**6)


def test_price_ages_by_the_chains_clock(house: House, usdc_weth: Market, market: Maker) -> None:
    pushed_at = house.node.block_at()
    house.node.next_block_at(at=pushed_at + FEED_MAX_AGE_SECONDS - 60)
    house.node.mine()
    assert reference_price_read(market_id=usdc_weth.pk).numerator > 0
    house.node.next_block_at(at=pushed_at + FEED_MAX_AGE_SECONDS + 60)
    house.node.mine()
    with pytest.raises(ReferenceUnavailable, match="s old"):
        reference_price_read(market_id=usdc_weth.pk)
    market.refresh_feeds()
    assert reference_price_read(market_id=usdc_weth.pk).numerator > 0


def test_contract_that_is_no_feed_is_refused(house: House, usdc_weth: Market) -> None:
    for address in (house.deployment.token("USDC").address, "0x" + "9" * 40):
        PriceFeed.objects.filter(asset=house.assets["WETH"]).update(aggregator_address=address)
        with pytest.raises(ReferenceUnavailable, match="WETH"):
            reference_price_read(market_id=usdc_weth.pk)


def test_feeds_of_two_currencies_are_never_mixed(house: House, usdc_weth: Market) -> None:
    PriceFeed.objects.filter(asset=house.assets["USDC"]).update(quote_currency="EUR")
    with pytest.raises(ReferenceUnavailable, match="currencies"):
        reference_price_read(market_id=usdc_weth.pk)


def test_asset_without_a_feed_has_no_reference(house: House, usdc_weth: Market) -> None:
    PriceFeed.objects.filter(asset=house.assets["WETH"]).delete()
    with pytest.raises(ReferenceUnavailable, match="WETH has no price feed"):
        reference_price_read(market_id=usdc_weth.pk)


def test_unknown_market_is_not_found(house: House) -> None:
    with pytest.raises(NotFound):
        reference_price_read(market_id=uuid7())


def test_reference_costs_one_query_of_ours(
    usdc_weth: Market, django_assert_num_queries: Callable[..., Any]
) -> None:
    reference_price_read(market_id=usdc_weth.pk)
    with django_assert_num_queries(2) as queries:
        reference_price_read(market_id=usdc_weth.pk)
    assert sum("providers_" in query["sql"] for query in queries.captured_queries) == 1
