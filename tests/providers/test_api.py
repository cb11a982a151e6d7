"""`GET /markets`, `GET /assets`, `POST /fees/quote` through the whole stack, without a chain."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from apps.chain.models import Token
from apps.chain.services import network_create
from apps.core import clock
from apps.core.ids import uuid7
from apps.core.models import Asset
from apps.fees.services import SCHEDULES, fee_schedule_set
from apps.providers.api.fields import MARKETS
from apps.providers.models import Market, PriceSnapshot
from tests.core.api.support import ApiClient, problem, user_with_key

pytestmark = pytest.mark.django_db
USDC_ADDRESS = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"


@pytest.fixture
def market() -> Market:
    """USDC/WETH at 2500 dollars, 0.25 % fee, 130,000 gas at 20 gwei."""
    ether = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    usdc = Asset.objects.create(code="USDC", name="USD Coin", decimals=6)
    weth = Asset.objects.create(code="WETH", name="Wrapped Ether", decimals=18)
    network = network_create(chain_id=1, name="mainnet", native_asset_id=ether.pk)
    Token.objects.create(network=network, asset=usdc, address=USDC_ADDRESS, decimals=6)
    market = Market.objects.create(
        network=network, sold_asset=usdc, bought_asset=weth, min_trade_units=1_000_000, guard_bps=100
    )
    PriceSnapshot.objects.create(
        market=market,
        numerator=400_000_000,
        denominator=1,
        gas_numerator=2_500 * 10**6,
        gas_denominator=10**18,
        gas_price_units=20 * 10**9,
        swap_gas_units=130_000,
        block_number=77,
        observed_at=clock.now() - timedelta(seconds=30),
    )
    fee_schedule_set(tier="standard", asset_id=usdc.pk, bps=25, min_units=10_000, max_units=5_000_000)
    return market


@pytest.fixture
def client() -> ApiClient:
    return user_with_key()[1]


def _quote(client: ApiClient, **body: Any) -> Any:
    return client.post("/api/v1/fees/quote", {"market": "USDC/WETH", "amount": "100", **body})


def test_quote_says_what_a_buy_costs_and_why(client: ApiClient, market: Market) -> None:
    answer = _quote(client)
    assert answer.status_code == 200
    body = answer.json()
    why = {line["code"]: line["text"] for line in body.pop("why")}
    basis = body.pop("price_basis")
    assert body == {
        "market_id": str(market.pk),
        "sold": "USDC",
        "bought": "WETH",
        "amount": "100",
        "fee": "0.25",
        "swapped": "99.75",
        "expected": "0.0399",
        "minimum": "0.039501",
        "max_slippage_bps": 100,
        "price": "2500",
        "tradable": True,
        "gas": {"asset": "ETH", "estimate": "0.0026", "worth": "6.5", "paid_by": "platform"},
    }
    assert basis["block_number"] == 77
    assert 30 <= basis["age_seconds"] < 60
    assert list(why) == ["fee_rate", "swapped", "price", "minimum", "gas"]
    assert why["fee_rate"] == (
        "A fee of 0.25 USDC: 25 basis points of 100 USDC (tier standard), rounded down."
    )
    assert "the platform pays it" in why["gas"]


@pytest.mark.parametrize(
    ("amount", "fee", "swapped", "code", "tradable"),
    [
        ("3", "0.01", "2.99", "fee_minimum", True),
        ("1000000", "5", "999995", "fee_maximum", True),
        ("0.5", "0.01", "0.49", "below_minimum", False),
        ("0.000001", "0.000001", "0", "below_minimum", False),
    ],
)
def test_quote_explains_bounds(
    client: ApiClient, market: Market, amount: str, fee: str, swapped: str, code: str, tradable: bool
) -> None:
    body = _quote(client, amount=amount).json()
    assert (body["fee"], body["swapped"], body["tradable"]) == (fee, swapped, tradable)
    assert code in [line["code"] for line in body["why"]]


@pytest.mark.parametrize(("asked", "used"), [(0, 0), (50, 50), (100, 100), (5_000, 100)])
def test_quote_takes_the_stricter_of_cap_and_guard(
    client: ApiClient, market: Market, asked: int, used: int
) -> None:
    body = _quote(client, max_slippage_bps=asked).json()
    assert body["max_slippage_bps"] == used
    assert body["minimum"] == {0: "0.0399", 50: "0.0397005", 100: "0.039501"}[used]


def test_quote_costs_three_queries_and_one_within_the_second(
    client: ApiClient,
    market: Market,
    django_assert_num_queries: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _quote(client)
    for kept in (MARKETS, SCHEDULES):
        # So that a slow machine does not count another second.
        monkeypatch.setattr(kept, "_seconds", 600)
    for name in (str(market.pk), "USDC/WETH"):
        MARKETS.forget()
        SCHEDULES.forget()
        # The key with its person, the market with everything, the fee's schedules.
        with django_assert_num_queries(3):
            assert _quote(client, market=name).status_code == 200
        with django_assert_num_queries(1):
            assert _quote(client, market=name).status_code == 200


def test_quote_follows_what_operators_save(client: ApiClient, market: Market) -> None:
    assert _quote(client).json()["fee"] != "0"
    market.guard_bps = 7
    market.save()
    fee_schedule_set(tier="standard", bps=0, asset_id=market.sold_asset_id)

    answer = _quote(client).json()

    assert (answer["fee"], answer["max_slippage_bps"]) == ("0", 7)
    market.enabled = False
    market.save()
    problem(_quote(client), 400, "validation_failed", errors=[("/market", "unknown_market")])


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"market": "USDC/DOGE"}, [("/market", "unknown_market")]),
        ({"market": "WETH/USDC"}, [("/market", "unknown_market")]),
        ({"market": str(uuid7())}, [("/market", "unknown_market")]),
        ({"market": "USDC"}, [("/market", "invalid")]),
        ({"market": 5}, [("/market", "invalid")]),
        ({"market": "USDC/WETH/USDC"}, [("/market", "invalid")]),
        ({"market": "USDC/" + "W" * 9_000}, [("/market", "invalid")]),
        ({"market": "USDC/\u0000"}, [("/market", "invalid_character")]),
        ({"market": None}, [("/market", "null")]),
        ({"amount": 100}, [("/amount", "not_a_string")]),
        ({"amount": "0"}, [("/amount", "zero")]),
        ({"amount": "-1"}, [("/amount", "negative")]),
        ({"amount": None}, [("/amount", "null")]),
        ({"amount": ["100"]}, [("/amount", "not_a_string")]),
        ({"amount": "NaN"}, [("/amount", "invalid_amount")]),
        ({"amount": "1\u0000"}, [("/amount", "invalid_character")]),
        ({"amount": "1e3"}, [("/amount", "invalid_amount")]),
        ({"amount": "1.0000001"}, [("/amount", "too_many_decimals")]),
        ({"amount": "1" + "0" * 76}, [("/amount", "too_large")]),
        ({"max_slippage_bps": 10_000}, [("/max_slippage_bps", "max_value")]),
        ({"max_slippage_bps": -1}, [("/max_slippage_bps", "min_value")]),
        ({"max_slippage_bps": 1.5}, [("/max_slippage_bps", "invalid")]),
        ({"max_slippage_bps": True}, [("/max_slippage_bps", "invalid")]),
        ({"max_slippage_bps": "50"}, [("/max_slippage_bps", "invalid")]),
        ({"tier": "gold"}, [("/tier", "unknown_field")]),
    ],
)
def test_bad_quote_request_is_refused_with_its_place(
    client: ApiClient, market: Market, body: dict[str, Any], errors: list[tuple[str, str]]
) -> None:
    problem(_quote(client, **body), 400, "validation_failed", errors=errors)


def test_quote_on_a_closed_market_is_refused(client: ApiClient, market: Market) -> None:
    Market.objects.update(enabled=False)
    for name in (str(market.pk), "USDC/WETH"):
        errors = [("/market", "unknown_market")]
        problem(_quote(client, market=name), 400, "validation_failed", errors=errors)


def test_quote_without_a_price_is_unavailable_for_now(client: ApiClient, market: Market) -> None:
    PriceSnapshot.objects.all().delete()
    problem(_quote(client), 503, "unavailable", retryable=True)


def test_quote_for_a_tier_without_a_schedule_is_unavailable(market: Market) -> None:
    _, client = user_with_key("gold@example.org", fee_tier="gold")
    problem(_quote(client), 503, "unavailable", retryable=True)


def test_quote_needs_a_key_with_its_scope(market: Market) -> None:
    problem(_quote(ApiClient()), 401, "not_authenticated")
    _, client = user_with_key("bob@example.org", scopes=["plans:read"])
    problem(_quote(client), 403, "insufficient_scope")
    for path in ("/api/v1/markets", "/api/v1/assets"):
        problem(ApiClient().get(path), 401, "not_authenticated")
        problem(client.get(path), 403, "insufficient_scope")
        problem(user_with_key(f"{path[-6:]}@example.org")[1].post(path, {}), 405, "method_not_allowed")


def test_markets_show_pair_and_price(
    client: ApiClient, market: Market, django_assert_num_queries: Callable[..., Any]
) -> None:
    client.get("/api/v1/markets")
    with django_assert_num_queries(2):
        answer = client.get("/api/v1/markets")
    (found,) = answer.json()["data"]
    price = found.pop("price")
    assert found == {
        "id": str(market.pk),
        "network": "mainnet",
        "sold": "USDC",
        "bought": "WETH",
        "min_trade": "1",
        "guard_bps": 100,
    }
    assert (price["value"], price["block_number"]) == ("2500", 77)


def test_closed_market_is_not_shown_and_one_without_price_says_so(client: ApiClient, market: Market) -> None:
    PriceSnapshot.objects.all().delete()
    assert client.get("/api/v1/markets").json()["data"][0]["price"] is None
    Market.objects.update(enabled=False)
    assert client.get("/api/v1/markets").json() == {"data": [], "next_cursor": None}


def test_assets_show_places_and_contracts(
    client: ApiClient, market: Market, django_assert_num_queries: Callable[..., Any]
) -> None:
    client.get("/api/v1/assets")
    with django_assert_num_queries(2):
        answer = client.get("/api/v1/assets")
    found = {asset["code"]: asset for asset in answer.json()["data"]}
    assert set(found) == {"ETH", "USDC", "WETH"}
    assert found["USDC"]["decimals"] == 6
    assert found["USDC"]["address"] == "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
    assert (found["ETH"]["network"], found["ETH"]["address"]) == ("mainnet", None)
    assert (found["WETH"]["network"], found["WETH"]["address"]) == (None, None)


def test_lists_are_paged(client: ApiClient, market: Market) -> None:
    first = client.get("/api/v1/assets", {"limit": "2"}).json()
    rest = client.get("/api/v1/assets", {"limit": "2", "cursor": first["next_cursor"]}).json()
    codes = [asset["code"] for asset in first["data"] + rest["data"]]
    assert codes == ["WETH", "USDC", "ETH"]
    assert rest["next_cursor"] is None
    problem(client.get("/api/v1/assets", {"cursor": "nonsense"}), 400, "invalid_cursor")
    problem(client.get("/api/v1/markets", {"colour": "red"}), 400, "validation_failed")
