"""Withdrawals over REST. Writes answer at once and ring workers; nothing here waits for the chain."""

from typing import ClassVar
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.signin.api.serializers import STEP_UP_PROBLEMS
from apps.core.api.amounts import amount_format
from apps.core.api.idempotency import MONEY, idempotent
from apps.core.api.pagination import PAGE_PARAMETERS, paged
from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import ApiView
from apps.withdrawals import selectors, services
from apps.withdrawals.api.serializers import (
    ConfirmSerializer,
    DestinationSerializer,
    DestinationWriteSerializer,
    WithdrawalFilterSerializer,
    WithdrawalQuoteSerializer,
    WithdrawalQuoteWriteSerializer,
    WithdrawalSerializer,
    WithdrawalWriteSerializer,
)
from apps.withdrawals.domain import WithdrawalState


class WithdrawalsView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "withdrawals:read", "POST": "withdrawals:write"}
    tag = "withdrawals"

    @extend_schema(
        operation_id="withdrawals_list",
        summary="Your withdrawals, newest first",
        parameters=[
            OpenApiParameter("state", {"type": "string", "enum": WithdrawalState.values}),
            OpenApiParameter("asset", {"type": "string", "maxLength": 24}),
            *PAGE_PARAMETERS,
        ],
        responses=paged(WithdrawalSerializer),
    )
    def get(self, request: Request) -> Response:
        query, filters = self.read_page(request, WithdrawalFilterSerializer)
        return self.answer_page(
            selectors.withdrawal_page(user_id=self.user_id, query=query, **filters), WithdrawalSerializer
        )

    @extend_schema(
        operation_id="withdrawals_create",
        summary="Withdraw to one of your destinations",
        description=(
            "The whole amount is held at once; it leaves when everybody whose word is needed has given it. The fee is"
            " inside the amount: `amount = fee + sent`. What of the quoted fee is not needed comes back."
        ),
        request=WithdrawalWriteSerializer,
        responses={201: WithdrawalSerializer},
    )
    @idempotent(**MONEY)
    def post(self, request: Request) -> Response:
        values = self.read(request, WithdrawalWriteSerializer)
        row = services.withdrawal_request(user_id=self.user_id, **values)
        headers = {"Location": reverse("withdrawal", args=[row.pk])}
        return Response(WithdrawalSerializer(row).data, status=201, headers=headers)


class WithdrawalQuoteView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"POST": "withdrawals:read"}
    tag = "withdrawals"

    @extend_schema(
        operation_id="withdrawals_quote",
        summary="What a withdrawal would cost, and why",
        description="Nothing is saved. Send the fee as `max_fee` with the withdrawal to be sure of it.",
        request=WithdrawalQuoteWriteSerializer,
        responses=WithdrawalQuoteSerializer,
    )
    def post(self, request: Request) -> Response:
        values = self.read(request, WithdrawalQuoteWriteSerializer)
        quote, room, rule = services.withdrawal_quote(user_id=self.user_id, **values)
        threshold = rule.approval_above_units
        approval = threshold is not None and quote.amount_units > threshold
        remaining = amount_format(room.person_units, decimals=quote.asset.decimals)
        why = []
        if approval:
            why.append({"code": "approval", "text": "An amount of this size needs two operators' approval."})
        if quote.amount_units > room.person_units:
            text = f"Your limit leaves {remaining} {quote.asset.code} within 24 hours: this would be refused."
            why.append({"code": "daily_limit", "text": text})
        if quote.amount_units > room.platform_units:
            text = "The platform's hourly limit is reached: this would be refused now."
            why.append({"code": "hourly_limit", "text": text})
        context = {"needs_approval": approval, "remaining": remaining, "why": why}
        return Response(WithdrawalQuoteSerializer(quote, context=context).data)


class WithdrawalView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "withdrawals:read"}
    tag = "withdrawals"

    @extend_schema(
        operation_id="withdrawals_read",
        summary="One withdrawal: where it stands, why it waits, its transaction",
        responses=WithdrawalSerializer,
    )
    def get(self, request: Request, withdrawal_id: UUID) -> Response:
        self.read_query(request, StrictSerializer)
        row = selectors.withdrawal_get(user_id=self.user_id, withdrawal_id=withdrawal_id)
        return Response(WithdrawalSerializer(row).data)


class WithdrawalCancelView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"POST": "withdrawals:write"}
    tag = "withdrawals"

    @extend_schema(
        operation_id="withdrawals_cancel",
        summary="Call a withdrawal off",
        description="Until it is being sent. What was held comes back at once.",
        request=None,
        responses=WithdrawalSerializer,
    )
    @idempotent()
    def post(self, request: Request, withdrawal_id: UUID) -> Response:
        self.read_empty(request)
        services.withdrawal_cancel(user_id=self.user_id, withdrawal_id=withdrawal_id)
        row = selectors.withdrawal_get(user_id=self.user_id, withdrawal_id=withdrawal_id)
        return Response(WithdrawalSerializer(row).data)


class WithdrawalConfirmView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"POST": "withdrawals:write"}
    tag = "withdrawals"

    @extend_schema(
        operation_id="withdrawals_confirm",
        summary="Confirm a withdrawal with your second factor",
        description="Only while it is `awaiting_confirmation`. After five wrong codes it is called off.",
        request=ConfirmSerializer,
        responses=WithdrawalSerializer,
    )
    def post(self, request: Request, withdrawal_id: UUID) -> Response:
        # Without an idempotency key: its transaction would roll the count of wrong codes back.
        values = self.read(request, ConfirmSerializer)
        services.withdrawal_confirm(user_id=self.user_id, withdrawal_id=withdrawal_id, **values)
        row = selectors.withdrawal_get(user_id=self.user_id, withdrawal_id=withdrawal_id)
        return Response(WithdrawalSerializer(row).data)


class DestinationsView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "withdrawals:read", "POST": "withdrawals:write"}
    step_up = {"POST"}
    problems = STEP_UP_PROBLEMS
    tag = "withdrawals"

    @extend_schema(
        operation_id="withdrawal_destinations_list",
        summary="The addresses that you may withdraw to",
        parameters=PAGE_PARAMETERS,
        responses=paged(DestinationSerializer),
    )
    def get(self, request: Request) -> Response:
        query, _ = self.read_page(request)
        return self.answer_page(
            selectors.destination_page(user_id=self.user_id, query=query), DestinationSerializer
        )

    @extend_schema(
        operation_id="withdrawal_destinations_create",
        summary="Add an address",
        description="It may be used from `usable_at` on, a day later. Addresses of ours and contracts are refused.",
        request=DestinationWriteSerializer,
        responses={201: DestinationSerializer},
    )
    @idempotent()
    def post(self, request: Request) -> Response:
        values = self.read(request, DestinationWriteSerializer)
        row = services.destination_add(user_id=self.user_id, **values)
        return Response(DestinationSerializer(row).data, status=201)


class DestinationView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"DELETE": "withdrawals:write"}
    step_up = {"DELETE"}
    problems = STEP_UP_PROBLEMS
    tag = "withdrawals"

    @extend_schema(
        operation_id="withdrawal_destinations_delete", summary="Remove an address", responses={204: None}
    )
    def delete(self, request: Request, destination_id: UUID) -> Response:
        services.destination_remove(user_id=self.user_id, destination_id=destination_id)
        return Response(status=204)
