"""Plans, batches and slots for operators: read-only but for pausing and resuming, which go through the services."""

from typing import Any

import orjson
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from apps.core.errors import Conflict
from apps.plans import services
from apps.plans.models import Batch, Plan, Slot
from apps.plans.rules import rule_of
from apps.plans.schedule import describe

_STATE_COLOURS = {
    "active": "success",
    "settled": "success",
    "paused": "warning",
    "skipped": "warning",
    "failed": "danger",
    "cancelled": "danger",
}


class _ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """What the main job writes is looked at here, never edited: the books would no longer match."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="State", label=_STATE_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, row: Any) -> str:
        return str(row.state)

    @display(description="Decision record")  # type: ignore[untyped-decorator]
    def shown_decision(self, row: Any) -> str:
        text = orjson.dumps(row.decision, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
        return format_html("<pre>{}</pre>", text)


@admin.register(Plan)
class PlanAdmin(_ReadOnlyAdmin):
    list_display = (
        "name",
        "owner",
        "market",
        "shown_state",
        "shown_schedule",
        "run_after",
        "misses_in_a_row",
    )
    list_filter = ("state", "schedule_kind", "market")
    list_select_related = ("owner", "market__sold_asset", "market__bought_asset")
    search_fields = ("owner__email", "name", "id")
    actions = ("pause", "resume")
    ordering = ("-created_at", "-id")

    @display(description="Schedule")  # type: ignore[untyped-decorator]
    def shown_schedule(self, plan: Plan) -> str:
        return describe(rule_of(plan))

    # Actions ask for their own permission, since changing a plan by form is nobody's.
    def has_pause_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("plans.change_plan"))

    @action(description="Pause", permissions=["pause"])  # type: ignore[untyped-decorator]
    def pause(self, request: HttpRequest, queryset: QuerySet[Plan]) -> None:
        self._each(request, queryset, services.plan_pause, "paused")

    @action(description="Resume with the next run after now", permissions=["pause"])  # type: ignore[untyped-decorator]
    def resume(self, request: HttpRequest, queryset: QuerySet[Plan]) -> None:
        self._each(request, queryset, services.plan_resume, "resumed")

    def _each(self, request: HttpRequest, queryset: QuerySet[Plan], service: Any, done: str) -> None:
        count = 0
        for plan in queryset.order_by("pk"):
            try:
                service(owner_id=plan.owner_id, plan_id=plan.pk)
            except Conflict as error:
                messages.warning(request, f"{plan.name}: {error.detail}")
            else:
                count += 1
        messages.success(request, f"{count} plans {done}.")


@admin.register(Batch)
class BatchAdmin(_ReadOnlyAdmin):
    list_display = (
        "id",
        "market",
        "shown_state",
        "reason",
        "slot_count",
        "try_number",
        "created_at",
        "settled_at",
    )
    list_filter = ("state", "market")
    list_select_related = ("market__sold_asset", "market__bought_asset")
    search_fields = ("id",)
    exclude = ("decision", "transaction")
    readonly_fields = ("shown_transaction", "shown_decision")
    ordering = ("-created_at", "-id")

    @display(description="Transaction")  # type: ignore[untyped-decorator]
    def shown_transaction(self, batch: Batch) -> str:
        if batch.transaction is None:
            return "-"
        url = reverse("admin:chain_outboundtransaction_change", args=[batch.transaction.pk])
        return format_html(
            '<a href="{}">{} ({})</a>', url, batch.transaction.reference, batch.transaction.state
        )


@admin.register(Slot)
class SlotAdmin(_ReadOnlyAdmin):
    list_display = ("plan", "number", "owner", "market", "scheduled_at", "shown_state", "reason", "closed_at")
    list_filter = ("state", "reason", "market")
    list_select_related = ("plan", "owner", "market__sold_asset", "market__bought_asset")
    search_fields = ("owner__email", "id", "plan__id")
    exclude = ("decision",)
    readonly_fields = ("shown_decision",)
    ordering = ("-created_at", "-id")
