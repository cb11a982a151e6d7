"""Proof of reserves, for anybody."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import ApiView
from apps.treasury import reserves
from apps.treasury.api.serializers import ReservesSerializer


class ReservesView(ApiView):
    public = True
    # A query, which it takes none of.
    also = {"GET": frozenset({400})}
    tag = "operations"

    @extend_schema(
        operation_id="platform_reserves",
        summary="What is owed, and what is there",
        description="Per asset: what people have, what all our wallets hold on chain at one block, and whether the"
        " two agree with the ledger to the last unit. Compared every half minute. Totals only.",
        responses=ReservesSerializer,
    )
    def get(self, request: Request) -> Response:
        self.read_query(request, StrictSerializer)
        return Response(ReservesSerializer({"data": reserves.reserves_list()}).data)
