"""Plans and slots over REST. Writes answer at once and ring workers; nothing here waits for the chain."""

from collections.abc import Callable
from typing import Any, ClassVar, cast
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import User
from apps.core.api.idempotency import MONEY, idempotent
from apps.core.api.pagination import PAGE_PARAMETERS, paged
from apps.core.api.views import ApiView
from apps.plans import selectors, services
from apps.plans.api.serializers import (
    CountQuerySerializer,
    PlanFilterSerializer,
    PlanPatchSerializer,
    PlanSerializer,
    PlanWriteSerializer,
    PreviewSerializer,
    SlotDetailSerializer,
    SlotFilterSerializer,
    SlotSerializer,
)
from apps.plans.models import Plan, PlanState, SlotReason, SlotState
from apps.plans.preview import plan_preview

_COUNT = OpenApiParameter("count", {"type": "integer", "minimum": 1, "maximum": 100, "default": 10})


def _choice(name: str, values: list[str]) -> OpenApiParameter:
    return OpenApiParameter(name, {"type": "string", "enum": values})


class PlansView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "plans:read", "POST": "plans:write"}
    tag = "plans"

    @extend_schema(
        operation_id="plans_list",
        summary="Your plans, newest first",
        parameters=[_choice("state", PlanState.values), *PAGE_PARAMETERS],
        responses=paged(PlanSerializer),
    )
    def get(self, request: Request) -> Response:
        query, filters = self.read_page(request, PlanFilterSerializer)
        page = selectors.plans_page(owner_id=self.user_id, query=query, state=filters["state"])
        return self.answer_page(page, PlanSerializer)

    @extend_schema(
        operation_id="plans_create",
        summary="Create a plan",
        description="The plan is active at once. Its first run is the first occurrence not before `start_at`.",
        request=PlanWriteSerializer,
        responses={201: PlanSerializer},
    )
    @idempotent(**MONEY)
    def post(self, request: Request) -> Response:
        plan = services.plan_create(owner_id=self.user_id, **self.read(request, PlanWriteSerializer))
        return Response(PlanSerializer(plan).data, status=201)


class PlanView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "plans:read", "PATCH": "plans:write"}
    tag = "plans"

    @extend_schema(operation_id="plans_read", summary="One plan", responses=PlanSerializer)
    def get(self, request: Request, plan_id: UUID) -> Response:
        return Response(PlanSerializer(selectors.plan_get(owner_id=self.user_id, plan_id=plan_id)).data)

    @extend_schema(
        operation_id="plans_update",
        summary="Change a plan",
        description="Slots that are open already keep what they were opened with.",
        request=PlanPatchSerializer,
        responses=PlanSerializer,
    )
    def patch(self, request: Request, plan_id: UUID) -> Response:
        market = selectors.plan_get(owner_id=self.user_id, plan_id=plan_id).market
        values = self.read(request, PlanPatchSerializer, market=market)
        plan = services.plan_update(owner_id=self.user_id, plan_id=plan_id, **values)
        return Response(PlanSerializer(plan).data)


class _PlanActionView(ApiView):
    """A POST without a body that moves a plan to another state."""

    scopes: ClassVar[dict[str, str | None]] = {"POST": "plans:write"}
    tag = "plans"
    action: ClassVar[Callable[..., Plan]]

    def _act(self, request: Request, plan_id: UUID) -> Response:
        self.read_empty(request)
        plan = type(self).action(owner_id=self.user_id, plan_id=plan_id)
        return Response(PlanSerializer(plan).data)


class PlanPauseView(_PlanActionView):
    action = staticmethod(services.plan_pause)

    @extend_schema(operation_id="plans_pause", summary="Pause a plan", request=None, responses=PlanSerializer)
    @idempotent()
    def post(self, request: Request, plan_id: UUID) -> Response:
        return self._act(request, plan_id)


class PlanResumeView(_PlanActionView):
    action = staticmethod(services.plan_resume)

    @extend_schema(
        operation_id="plans_resume",
        summary="Resume a paused plan",
        description="It goes on with its next occurrence after now.",
        request=None,
        responses=PlanSerializer,
    )
    @idempotent()
    def post(self, request: Request, plan_id: UUID) -> Response:
        return self._act(request, plan_id)


class PlanCancelView(_PlanActionView):
    action = staticmethod(services.plan_cancel)

    @extend_schema(
        operation_id="plans_cancel",
        summary="Cancel a plan for good",
        description="What is already being bought still settles.",
        request=None,
        responses=PlanSerializer,
    )
    @idempotent()
    def post(self, request: Request, plan_id: UUID) -> Response:
        return self._act(request, plan_id)


class PlanSlotsView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "plans:read"}
    tag = "plans"

    @extend_schema(
        operation_id="plans_slots",
        summary="A plan's slots with outcome and reason, newest first",
        parameters=[
            _choice("state", SlotState.values),
            _choice("reason", SlotReason.values),
            *PAGE_PARAMETERS,
        ],
        responses=paged(SlotSerializer),
    )
    def get(self, request: Request, plan_id: UUID) -> Response:
        query, filters = self.read_page(request, SlotFilterSerializer)
        page = selectors.slots_page(owner_id=self.user_id, plan_id=plan_id, query=query, **filters)
        return self.answer_page(page, SlotSerializer)


class SlotView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "plans:read"}
    tag = "plans"

    @extend_schema(
        operation_id="slots_read",
        summary="One slot with its decision record and transaction",
        responses=SlotDetailSerializer,
    )
    def get(self, request: Request, slot_id: UUID) -> Response:
        slot, journals = selectors.slot_get(owner_id=self.user_id, slot_id=slot_id)
        return Response(SlotDetailSerializer(slot, context={"journals": journals}).data)


class PreviewView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"POST": "plans:read"}
    tag = "plans"

    @extend_schema(
        operation_id="plans_preview_new",
        summary="What a plan would do",
        description="The next runs with their cost, and how long available funds last. Nothing is saved.",
        parameters=[_COUNT],
        request=PlanWriteSerializer,
        responses=PreviewSerializer,
    )
    def post(self, request: Request) -> Response:
        count = self.read_query(request, CountQuerySerializer)["count"]
        plan = services.plan_draft(owner_id=self.user_id, **self.read(request, PlanWriteSerializer))
        return _preview(request, plan, count)


class PlanPreviewView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "plans:read"}
    tag = "plans"

    @extend_schema(
        operation_id="plans_preview",
        summary="What this plan is going to do",
        parameters=[_COUNT],
        responses=PreviewSerializer,
    )
    def get(self, request: Request, plan_id: UUID) -> Response:
        count = self.read_query(request, CountQuerySerializer)["count"]
        return _preview(request, selectors.plan_get(owner_id=self.user_id, plan_id=plan_id), count)


def _preview(request: Request, plan: Plan, count: int) -> Response:
    found = plan_preview(plan=plan, tier=cast("User", request.user).fee_tier, count=count)
    context: dict[str, Any] = {"sold": plan.market.sold_asset}
    return Response(PreviewSerializer(found, context=context).data)
