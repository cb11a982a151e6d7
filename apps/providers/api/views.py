"""Markets and assets. Read-only: operators set them up in the admin."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.pagination import PAGE_PARAMETERS, paged
from apps.core.api.views import ApiView
from apps.providers import selectors
from apps.providers.api.serializers import AssetSerializer, MarketSerializer


class MarketsView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "markets:read"}
    tag = "markets"

    @extend_schema(
        operation_id="markets_list",
        summary="What can be bought with what",
        description="Markets that are open for trade, with the latest reference price, newest first.",
        responses=paged(MarketSerializer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request) -> Response:
        query, _ = self.read_page(request)
        return self.answer_page(selectors.market_page(query=query), MarketSerializer)


class AssetsView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "markets:read"}
    tag = "markets"

    @extend_schema(
        operation_id="assets_list",
        summary="Assets and their places",
        description="Everything that amounts are counted in: code, decimals, network and contract, newest first.",
        responses=paged(AssetSerializer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request) -> Response:
        query, _ = self.read_page(request)
        return self.answer_page(selectors.asset_page(query=query), AssetSerializer)
