"""Markets and assets as callers see them: amounts as decimal strings, prices per whole coin."""

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.chain.abi import checksum
from apps.core import clock
from apps.core.api.amounts import amount_format
from apps.core.api.fields import AmountField, InstantField
from apps.core.models import Asset
from apps.providers.models import Market, PriceSnapshot


def age_seconds(at: datetime) -> int:
    """Whole seconds since an instant, by the business clock; never negative."""
    return max(0, int((clock.now() - at).total_seconds()))


class AssetSerializer(serializers.Serializer[Asset]):
    id = serializers.UUIDField()
    code = serializers.CharField()
    name = serializers.CharField()
    decimals = serializers.IntegerField(help_text="Places of the smallest unit.")
    network = serializers.SerializerMethodField(help_text="Where it lives.")
    address = serializers.SerializerMethodField(
        help_text="The token's contract with its EIP-55 checksum; `null` for a network's own coin."
    )

    @extend_schema_field({"type": ["string", "null"]})
    def get_network(self, asset: Asset) -> str | None:
        token = getattr(asset, "token", None)
        if token is not None:
            return str(token.network.name)
        native = getattr(asset, "native_network", None)
        return None if native is None else str(native.name)

    @extend_schema_field({"type": ["string", "null"]})
    def get_address(self, asset: Asset) -> str | None:
        token = getattr(asset, "token", None)
        return None if token is None else checksum(token.address)


class PriceSerializer(serializers.Serializer[PriceSnapshot]):
    """The latest reference price."""

    # The market is in the context of its parent.

    value = serializers.SerializerMethodField(
        method_name="price_of", help_text="Sold coins for one whole bought coin, rounded up."
    )
    observed_at = InstantField(help_text="When the older of the two price feeds was written.")
    age_seconds = serializers.SerializerMethodField()
    block_number = serializers.IntegerField()

    @extend_schema_field({"type": "string", "examples": ["2500.12"]})
    def price_of(self, snapshot: PriceSnapshot) -> str:
        return price_format(snapshot.market, snapshot)

    def get_age_seconds(self, snapshot: PriceSnapshot) -> int:
        return age_seconds(snapshot.observed_at)


class MarketSerializer(serializers.Serializer[Market]):
    id = serializers.UUIDField()
    network = serializers.CharField(source="network.name")
    sold = serializers.CharField(source="sold_asset.code", help_text="The asset that plans pay with.")
    bought = serializers.CharField(source="bought_asset.code", help_text="The asset that plans buy.")
    min_trade = AmountField(asset="sold_asset", source="min_trade_units")
    guard_bps = serializers.IntegerField(
        help_text="How far below the reference price a buy may fill, in basis points; plans may ask for less."
    )
    price = serializers.SerializerMethodField(help_text="`null` until it was observed once.")

    @extend_schema_field(PriceSerializer(allow_null=True))
    def get_price(self, market: Market) -> Any:
        snapshot: PriceSnapshot | None = getattr(market, "price_snapshot", None)
        return None if snapshot is None else PriceSerializer(snapshot).data


def price_format(market: Market, snapshot: PriceSnapshot) -> str:
    """Sold coins for one whole bought coin as a decimal string, rounded up to the sold asset's places."""
    whole = 10**market.bought_asset.decimals
    units = -(-whole * snapshot.denominator // snapshot.numerator)
    return amount_format(units, decimals=market.sold_asset.decimals)
