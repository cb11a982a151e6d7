"""Plans and slots over REST. Writes answer at once and ring workers; nothing here waits for the chain."""

from collections.abc import Callable
from typing import ClassVar, cast
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import User
from apps.core.api.idempotency import MONEY, idempotent
from apps.core.api.pagination import PAGE_PARAMETERS, paged
from apps.core.api.views import ApiView
from apps.plans import selectors, services
from apps.plans.api import examples
from apps.plans.api.inputs import (
    PREVIEW_RUNS_MAX,
    CountQuerySerializer,
    PlanFilterSerializer,
    PlanPatchSerializer,
    PlanWriteSerializer,
    SlotFilterSerializer,
)
from apps.plans.api.serializers import (
    PlanDetailSerializer,
    PlanSerializer,
    PreviewSerializer,
    SlotDetailSerializer,
    SlotSerializer,
)
from apps.plans.models import Plan, PlanState, SlotReason, SlotState
from apps.plans.preview import plan_preview

_COUNT = OpenApiParameter(
    "count",
    {"type": "integer", "minimum": 1, "maximum": PREVIEW_RUNS_MAX, "default": 10},
    description="How many runs to show.",
)


def _choice(name: str, values: list[str]) -> OpenApiParameter:
    return OpenApiParameter(name, {"type": "string", "enum": values})


class PlansView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "plans:read", "POST": "plans:write"}
    tag = "plans"

    @extend_schema(
        operation_id="plans_list",
        summary="Your plans, newest first",
        parameters=[
            _choice("state", PlanState.values),
            OpenApiParameter("market_id", {"type": "string", "format": "uuid"}),
            *PAGE_PARAMETERS,
        ],
        responses=paged(PlanSerializer),
    )
    def get(self, request: Request) -> Response:
        query, filters = self.read_page(request, PlanFilterSerializer)
        page = selectors.plan_page(owner_id=self.user_id, query=query, **filters)
        return self.answer_page(page, PlanSerializer)

    @extend_schema(
        operation_id="plans_create",
        summary="Create a plan",
        description=(
            "The plan is active at once. Its first run is the first occurrence of the schedule that has not passed;"
            " one that is due right now is bought for within seconds, and nothing here waits for that."
        ),
        request=PlanWriteSerializer,
        responses={201: PlanDetailSerializer},
        examples=[examples.PLAN_WRITE, examples.PLAN],
    )
    @idempotent(**MONEY)
    def post(self, request: Request) -> Response:
        plan = services.plan_create(owner_id=self.user_id, **self.read(request, PlanWriteSerializer))
        answer = PlanDetailSerializer(plan, context={"progress": selectors.NO_PROGRESS}).data
        return Response(answer, status=201, headers={"Location": reverse("plan", args=[plan.pk])})


class PlanView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "plans:read", "PATCH": "plans:write"}
    tag = "plans"

    @extend_schema(
        operation_id="plans_read", summary="One plan and its progress", responses=PlanDetailSerializer
    )
    def get(self, request: Request, plan_id: UUID) -> Response:
        return _plan(selectors.plan_get(owner_id=self.user_id, plan_id=plan_id))

    @extend_schema(
        operation_id="plans_update",
        summary="Change a plan",
        description=(
            "Only what is sent changes, in `schedule` too. Other times run from their next occurrence after now;"
            " numbers go on. Slots that are open keep what they were opened with."
        ),
        request=PlanPatchSerializer,
        responses=PlanDetailSerializer,
        examples=[examples.PLAN_PATCH],
    )
    def patch(self, request: Request, plan_id: UUID) -> Response:
        market = selectors.plan_get(owner_id=self.user_id, plan_id=plan_id).market
        values = self.read(request, PlanPatchSerializer, market=market)
        return _plan(services.plan_update(owner_id=self.user_id, plan_id=plan_id, **values))


class _PlanActionView(ApiView):
    """A POST without a body that moves a plan to another state."""

    scopes: ClassVar[dict[str, str | None]] = {"POST": "plans:write"}
    tag = "plans"
    action: ClassVar[Callable[..., Plan]]

    def _act(self, request: Request, plan_id: UUID) -> Response:
        self.read_empty(request)
        return _plan(type(self).action(owner_id=self.user_id, plan_id=plan_id))


class PlanPauseView(_PlanActionView):
    action = staticmethod(services.plan_pause)

    @extend_schema(
        operation_id="plans_pause",
        summary="Pause a plan",
        description="What is on its way to the chain still settles; what is only reserved is released.",
        request=None,
        responses=PlanDetailSerializer,
    )
    @idempotent()
    def post(self, request: Request, plan_id: UUID) -> Response:
        return self._act(request, plan_id)


class PlanResumeView(_PlanActionView):
    action = staticmethod(services.plan_resume)

    @extend_schema(
        operation_id="plans_resume",
        summary="Resume a paused plan",
        description=(
            "It goes on with its next occurrence after now: what passed during the pause was not missed."
            " When nothing is left to run it is completed instead."
        ),
        request=None,
        responses=PlanDetailSerializer,
    )
    @idempotent()
    def post(self, request: Request, plan_id: UUID) -> Response:
        return self._act(request, plan_id)


class PlanCancelView(_PlanActionView):
    action = staticmethod(services.plan_cancel)

    @extend_schema(
        operation_id="plans_cancel",
        summary="Cancel a plan for good",
        description="What is on its way to the chain still settles; what is only reserved is released.",
        request=None,
        responses=PlanDetailSerializer,
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
        page = selectors.slot_page(owner_id=self.user_id, plan_id=plan_id, query=query, **filters)
        return self.answer_page(page, SlotSerializer)


class SlotView(ApiView):
    scopes: ClassVar[dict[str, str | None]] = {"GET": "plans:read"}
    tag = "plans"

    @extend_schema(
        operation_id="slots_read",
        summary="One slot: why it ended as it did, its swap, its transaction, its journals",
        responses=SlotDetailSerializer,
    )
    def get(self, request: Request, slot_id: UUID) -> Response:
        record = selectors.slot_get(owner_id=self.user_id, slot_id=slot_id)
        return Response(SlotDetailSerializer(record.slot, context={"record": record}).data)


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
        description="The next runs with their cost, and how long available funds last.",
        parameters=[_COUNT],
        responses=PreviewSerializer,
    )
    def get(self, request: Request, plan_id: UUID) -> Response:
        count = self.read_query(request, CountQuerySerializer)["count"]
        return _preview(request, selectors.plan_get(owner_id=self.user_id, plan_id=plan_id), count)


def _plan(plan: Plan) -> Response:
    progress = selectors.plan_progress(plan_id=plan.pk)
    return Response(PlanDetailSerializer(plan, context={"progress": progress}).data)


def _preview(request: Request, plan: Plan, count: int) -> Response:
    found = plan_preview(plan=plan, tier=cast("User", request.user).fee_tier, count=count)
    return Response(PreviewSerializer(found).data)
