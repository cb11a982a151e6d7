"""Where to send money, and what arrived. Read-only: deposits are made on chain."""

from typing import ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.pagination import PAGE_PARAMETERS, paged
from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import ApiView
from apps.deposits import selectors
from apps.deposits.api.serializers import (
    DepositAddressesSerializer,
    DepositFilterSerializer,
    DepositSerializer,
)
from apps.deposits.domain import DepositState
from apps.deposits.services import deposit_address_open


class DepositAddressesView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "deposits:read"}
    tag = "deposits"

    @extend_schema(
        operation_id="deposit_addresses_list",
        summary="Where to send deposits, and what is accepted there",
        description=(
            "The first call opens your address; it stays yours and is the same on every network. Send only what"
            " `accepted` lists: anything else waits until an operator looks at it."
        ),
        responses=DepositAddressesSerializer,
    )
    def get(self, request: Request) -> Response:
        self.read_query(request, StrictSerializer)
        address = deposit_address_open(user_id=self.user_id)
        context = {"accepted": selectors.accepted_list()}
        return Response(DepositAddressesSerializer({"data": [address]}, context=context).data)


class DepositsView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "deposits:read"}
    tag = "deposits"

    @extend_schema(
        operation_id="deposits_list",
        summary="Your deposits, newest first",
        parameters=[
            OpenApiParameter("state", {"type": "string", "enum": DepositState.values}),
            OpenApiParameter("asset", {"type": "string", "maxLength": 24}, description="An asset's code."),
            OpenApiParameter("network_id", {"type": "string", "format": "uuid"}),
            *PAGE_PARAMETERS,
        ],
        responses=paged(DepositSerializer),
    )
    def get(self, request: Request) -> Response:
        query, filters = self.read_page(request, DepositFilterSerializer)
        page = selectors.deposit_page(user_id=self.user_id, query=query, **filters)
        return self.answer_page(page, DepositSerializer)


class DepositView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "deposits:read"}
    tag = "deposits"

    @extend_schema(operation_id="deposits_read", summary="One deposit", responses=DepositSerializer)
    def get(self, request: Request, deposit_id: UUID) -> Response:
        self.read_query(request, StrictSerializer)
        return Response(
            DepositSerializer(selectors.deposit_get(user_id=self.user_id, deposit_id=deposit_id)).data
        )
