"""`POST /api/v1/fees/quote`: what a buy will cost and why. Changes nothing, so it takes no idempotency key."""

from typing import Any, ClassVar, cast

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import User
from apps.core.api.answers import AnswerSerializer
from apps.core.api.fields import AmountField, InstantField, WholeNumberField
from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import ApiView
from apps.plans.quote import GAS_PAID_BY, BuyQuote, buy_quote
from apps.providers.api.fields import MarketField


class FeeQuoteWriteSerializer(StrictSerializer):
    market = MarketField(help_text="A market's id, or a pair such as USDC/WETH.")
    amount = AmountField(asset="market.sold_asset", help_text="What the plan spends per buy, fee included.")
    max_slippage_bps = WholeNumberField(
        required=False,
        min_value=0,
        max_value=9_999,
        help_text="The plan's cap, in basis points; the market's guard when absent, and never above it.",
    )


class GasSerializer(AnswerSerializer[BuyQuote]):
    asset = serializers.CharField(source="market.network.native_asset.code")
    estimate = AmountField(
        asset="market.network.native_asset", source="gas_units", help_text="For a swap that nobody shares."
    )
    worth = AmountField(
        asset="market.sold_asset", source="gas_worth_units", help_text="The same in the sold asset."
    )
    paid_by = serializers.SerializerMethodField()

    def get_paid_by(self, quote: BuyQuote) -> str:
        del quote
        return GAS_PAID_BY


class PriceBasisSerializer(AnswerSerializer[BuyQuote]):
    observed_at = InstantField(help_text="When the older of the two price feeds was written.")
    refreshed_at = InstantField(help_text="When the platform last looked.")
    age_seconds = serializers.IntegerField()
    block_number = serializers.IntegerField()


class WhySerializer(AnswerSerializer[Any]):
    code = serializers.CharField(help_text="Stable: fee_rate, fee_minimum, fee_maximum, swapped, price, …")
    text = serializers.CharField()


class FeeQuoteSerializer(AnswerSerializer[BuyQuote]):
    market_id = serializers.UUIDField(source="market.id")
    sold = serializers.CharField(source="market.sold_asset.code")
    bought = serializers.CharField(source="market.bought_asset.code")
    amount = AmountField(asset="market.sold_asset", source="amount_units")
    fee = AmountField(asset="market.sold_asset", source="fee_units", help_text="Inside the amount.")
    swapped = AmountField(asset="market.sold_asset", source="swapped_units", help_text="Amount minus fee.")
    expected = AmountField(
        asset="market.bought_asset",
        source="expected_units",
        help_text="At the stored reference price, before the venue's own fee and price impact.",
    )
    minimum = AmountField(
        asset="market.bought_asset", source="minimum_units", help_text="With less the swap does not happen."
    )
    max_slippage_bps = serializers.IntegerField(source="slippage_bps")
    price = AmountField(
        asset="market.sold_asset", source="price_units", help_text="Sold coins for one whole bought coin."
    )
    tradable = serializers.BooleanField(help_text="False when the fee leaves less than the smallest trade.")
    gas = GasSerializer(source="*")
    price_basis = PriceBasisSerializer(source="*")
    why = WhySerializer(many=True)


class FeeQuoteView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"POST": "fees:read"}
    tag = "fees"

    @extend_schema(
        operation_id="fees_quote",
        summary="What a buy will cost, and why",
        description=(
            "The fee of your tier, what is swapped, what it buys at the stored reference price, and the least that"
            " the chain will accept. Answers from stored values and never waits for the chain."
        ),
        request=FeeQuoteWriteSerializer,
        responses=FeeQuoteSerializer,
    )
    def post(self, request: Request) -> Response:
        values = self.read(request, FeeQuoteWriteSerializer)
        quote = buy_quote(
            market=values["market"],
            tier=cast("User", request.user).fee_tier,
            amount_units=values["amount"],
            max_slippage_bps=values.get("max_slippage_bps"),
        )
        return Response(FeeQuoteSerializer(quote).data)


urlpatterns = [path("fees/quote", FeeQuoteView.as_view(), name="fee-quote")]
