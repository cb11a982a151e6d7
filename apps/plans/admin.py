"""Plans, batches and slots for operators: read-only but for pausing and resuming, which go through the services."""

from typing import Any

import orjson
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from apps.core.errors import Conflict
from apps.plans import services
from apps.plans.explain import slot_why
from apps.plans.models import Batch, Plan, Slot
from apps.plans.rules import rule_of
from apps.plans.schedule_text import describe
from apps.plans.selectors import SlotRecord
from apps.providers.models import Market

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
        return _pretty(row.decision)


def _pretty(record: Any) -> str:
    text = orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    return format_html('<pre style="white-space: pre-wrap">{}</pre>', text)


def _link(route: str, row: Any, text: str) -> str:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{route}_change", args=[row.pk]), text)


def _transaction_link(batch: Batch | None) -> str:
    if batch is None or batch.transaction is None:
        return "-"
    row = batch.transaction
    return _link("chain_outboundtransaction", row, f"{row.reference} ({row.state})")


class _MarketFilter(admin.SimpleListFilter):
    """By market; one query, where Django's own filter asks for the two assets of each."""

    title = parameter_name = "market"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        markets = Market.objects.select_related("sold_asset", "bought_asset")
        return [(str(market.pk), str(market)) for market in markets]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        known = {value for value, _ in self.lookup_choices}
        return queryset.filter(market_id=self.value()) if self.value() in known else queryset


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
    list_filter = ("state", "schedule_kind", _MarketFilter)
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
        """Each plan by itself: one that cannot does not stop the others. Who did it stands in the history."""
        count = 0
        for plan in queryset.order_by("pk"):
            try:
                with transaction.atomic():
                    after = service(owner_id=plan.owner_id, plan_id=plan.pk, reason=services.BY_OPERATOR)
                    if after.version != plan.version:
                        self.log_change(request, after, f"{done.capitalize()}; now {after.state}.")
            except Conflict as error:
                messages.warning(request, f"{plan.name}: {error.detail}")
            else:
                count += after.version != plan.version
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
    list_filter = ("state", _MarketFilter)
    list_select_related = ("market__sold_asset", "market__bought_asset")
    search_fields = ("id",)
    exclude = ("decision", "transaction", "lease_token")
    readonly_fields = ("shown_transaction", "shown_decision")
    ordering = ("-created_at", "-id")

    @display(description="Transaction")  # type: ignore[untyped-decorator]
    def shown_transaction(self, batch: Batch) -> str:
        return _transaction_link(batch)


@admin.register(Slot)
class SlotAdmin(_ReadOnlyAdmin):
    list_display = ("plan", "number", "owner", "market", "scheduled_at", "shown_state", "reason", "closed_at")
    list_filter = ("state", "reason", _MarketFilter)
    list_select_related = ("plan", "owner", "market__sold_asset", "market__bought_asset")
    search_fields = ("owner__email", "id", "plan__id")
    exclude = ("decision", "batch", "lease_token")
    readonly_fields = ("shown_why", "shown_batch", "shown_transaction", "shown_decision")
    ordering = ("-created_at", "-id")

    @display(description="Why")  # type: ignore[untyped-decorator]
    def shown_why(self, slot: Slot) -> str:
        return format_html_join(
            mark_safe("<br>"), "{}", ((why.text,) for why in slot_why(SlotRecord(slot, [])))
        )

    @display(description="Batch")  # type: ignore[untyped-decorator]
    def shown_batch(self, slot: Slot) -> str:
        return "-" if slot.batch is None else _link("plans_batch", slot.batch, str(slot.batch.pk))

    @display(description="Transaction")  # type: ignore[untyped-decorator]
    def shown_transaction(self, slot: Slot) -> str:
        return _transaction_link(slot.batch)

    @display(description="Decision record, with its batch's")  # type: ignore[untyped-decorator]
    def shown_decision(self, row: Slot) -> str:
        return _pretty(SlotRecord(row, []).decision)
