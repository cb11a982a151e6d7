"""How a market is named from outside: by its id, or as a pair of asset codes."""

import re
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.errors import NotFound
from apps.providers import selectors
from apps.providers.models import Market

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_PAIR = re.compile(r"([A-Za-z0-9.\-]{1,24})/([A-Za-z0-9.\-]{1,24})", re.ASCII)


@extend_schema_field({"type": "string", "maxLength": 49, "examples": ["USDC/WETH"]})
class MarketField(serializers.Field):  # type: ignore[type-arg]
    """An enabled market by id or as `SOLD/BOUGHT`; inside, the `Market` with assets and price. One query."""

    default_error_messages = {
        "invalid": "A market is an id, or two asset codes such as USDC/WETH.",
        "unknown_market": "No market sells the one asset for the other.",
    }

    def to_internal_value(self, data: Any) -> Market:
        if not isinstance(data, str):
            self.fail("invalid")
        try:
            if _ID.fullmatch(data):
                return selectors.market_enabled_get(market_id=UUID(data))
            pair = _PAIR.fullmatch(data)
            if pair is None:
                self.fail("invalid")
            return selectors.market_for_pair(sold_code=pair[1], bought_code=pair[2])
        except NotFound:
            self.fail("unknown_market")

    def to_representation(self, value: Market) -> str:
        return f"{value.sold_asset.code}/{value.bought_asset.code}"
