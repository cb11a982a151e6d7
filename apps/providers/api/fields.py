"""How a market is named from outside: by its id, or as a pair of asset codes."""

import re
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.brief import Brief
from apps.core.errors import NotFound
from apps.core.models import Asset
from apps.providers import selectors
from apps.providers.models import Market, PriceSnapshot

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_PAIR = re.compile(r"([A-Za-z0-9.\-]{1,24})/([A-Za-z0-9.\-]{1,24})", re.ASCII)


def _read(key: UUID | tuple[str, str]) -> Market:
    if isinstance(key, UUID):
        return selectors.market_enabled_get(market_id=key)
    return selectors.market_for_pair(sold_code=key[0], bought_code=key[1])


# Prices are looked at every ten seconds, and a market that was closed buys nothing for whatever plan.
MARKETS = Brief(_read, seconds=1.0, models=(Market, PriceSnapshot, Asset))


@extend_schema_field({"type": "string", "maxLength": 49, "examples": ["USDC/WETH"]})
class MarketField(serializers.Field):  # type: ignore[type-arg]
    """An enabled market by id or as `SOLD/BOUGHT`; inside, the `Market` with assets and price, up to a second old.

    One query, or none; the object is shared (`MARKETS`).
    """

    default_error_messages = {
        "invalid": "A market is an id, or two asset codes such as USDC/WETH.",
        "unknown_market": "No market sells the one asset for the other.",
    }

    def to_internal_value(self, data: Any) -> Market:
        if not isinstance(data, str):
            self.fail("invalid")
        try:
            if _ID.fullmatch(data):
                return MARKETS.get(UUID(data))
            pair = _PAIR.fullmatch(data)
            if pair is None:
                self.fail("invalid")
            return MARKETS.get((pair[1], pair[2]))
        except NotFound:
            self.fail("unknown_market")

    def to_representation(self, value: Market) -> str:
        return f"{value.sold_asset.code}/{value.bought_asset.code}"
