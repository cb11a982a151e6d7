"""Networks and tokens. Read-only: what goes on chain is asked for by other apps."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.chain import selectors
from apps.chain.api.serializers import NetworksSerializer
from apps.core.api.views import ApiView


class NetworksView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": None}
    tag = "networks"

    @extend_schema(
        operation_id="networks_list",
        summary="Networks and their tokens",
        description="Every network with its native asset, the depth at which it is final, and its tokens.",
        responses=NetworksSerializer,
    )
    def get(self, request: Request) -> Response:
        del request
        return Response(NetworksSerializer({"data": selectors.networks_list()}).data)
