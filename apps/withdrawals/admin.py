"""Withdrawals for operators: the queue that waits for their word, the terms, and what became of each."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from apps.chain import abi
from apps.core.api.amounts import amount_format
from apps.core.errors import DomainError
from apps.withdrawals import services
from apps.withdrawals.models import (
    Withdrawal,
    WithdrawalApproval,
    WithdrawalDestination,
    WithdrawalRule,
)

_COLOURS = {
    "awaiting_approval": "warning",
    "awaiting_confirmation": "warning",
    "confirmed": "success",
    "failed": "danger",
    "rejected": "danger",
}


class ReadOnly:
    """To look at: what changes it are services."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_delete_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False


class ApprovalInline(ReadOnly, TabularInline):  # type: ignore[misc]
    model = WithdrawalApproval
    fields = readonly_fields = ("operator", "note", "created_at")
    ordering = ("created_at",)
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[WithdrawalApproval]:
        rows: QuerySet[WithdrawalApproval] = super().get_queryset(request)
        return rows.select_related("operator")


@admin.register(Withdrawal)
class WithdrawalAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Filter by “Waits for two operators” for the queue: the oldest stand last."""

    list_display = (
        "created_at",
        "user",
        "amount",
        "shown_destination",
        "shown_state",
        "wait_reason",
        "reason",
    )
    list_filter = ("state", "wait_reason", "reason", "asset")
    list_select_related = ("asset", "user")
    search_fields = ("user__email", "id", "destination")
    exclude = ("lease_token", "leased_until", "gas_numerator", "gas_denominator")
    ordering = ("-created_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    inlines = (ApprovalInline,)
    actions = ("approve", "reject")

    @display(description="State", label=_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, row: Withdrawal) -> str:
        return row.state

    @display(description="Amount")  # type: ignore[untyped-decorator]
    def amount(self, row: Withdrawal) -> str:
        return f"{amount_format(row.amount_units, decimals=row.asset.decimals)} {row.asset.code}"

    @display(description="Destination")  # type: ignore[untyped-decorator]
    def shown_destination(self, row: Withdrawal) -> str:
        return abi.checksum(row.destination)

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Deciding is a permission of its own kind: changing a withdrawal by form is nobody's."""
        return bool(request.user.has_perm("withdrawals.change_withdrawal"))

    @admin.action(description="Approve (two operators needed)", permissions=["decide"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Withdrawal]) -> HttpResponse | None:
        said = "Each needs the word of two operators; yours is one of them."
        return self._decide(request, queryset, "approve", services.withdrawal_approve, said)

    @admin.action(description="Reject and give the money back", permissions=["decide"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Withdrawal]) -> HttpResponse | None:
        said = "What was held goes back to the person. They are told that it was refused, not why."
        return self._decide(request, queryset, "reject", services.withdrawal_reject, said)

    def _decide(
        self,
        request: HttpRequest,
        queryset: QuerySet[Withdrawal],
        name: str,
        service: Callable[..., Withdrawal],
        said: str,
    ) -> HttpResponse | None:
        """Asks for a note first; then decides about each by itself and says which could not be."""
        note = request.POST.get("note", "").strip()
        if not note:
            context = {
                **self.admin_site.each_context(request),
                "title": name.capitalize(),
                "said": said,
                "action": name,
                "opts": self.model._meta,
                "rows": queryset.select_related("asset", "user").order_by("created_at"),
                "checkbox": ACTION_CHECKBOX_NAME,
            }
            return TemplateResponse(request, "admin/withdrawals/decide.html", context)
        for row in queryset.order_by("created_at", "pk"):
            try:
                with transaction.atomic():
                    after = service(withdrawal_id=row.pk, operator_id=request.user.pk, note=note)
                    self.log_change(request, after, f"{name.capitalize()}: {note}"[:200])
            except DomainError as error:
                self.message_user(request, f"{row.pk}: {error.detail}", messages.ERROR)
            else:
                self.message_user(request, f"{row.pk}: {after.get_state_display()}.", messages.SUCCESS)
        return None


@admin.register(WithdrawalRule)
class WithdrawalRuleAdmin(ModelAdmin):  # type: ignore[misc]
    """The terms. They hold from the next request on; what was asked for keeps its quote."""

    list_display = (
        "asset",
        "enabled",
        "minimum_units",
        "flat_fee_units",
        "gas_units",
        "person_daily_units",
        "platform_hourly_units",
        "approval_above_units",
    )
    list_select_related = ("asset",)
    readonly_fields = ("created_at",)
    ordering = ("asset__code",)

    def get_readonly_fields(self, request: HttpRequest, obj: WithdrawalRule | None = None) -> tuple[str, ...]:
        del request
        return ("created_at",) if obj is None else ("asset", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: WithdrawalRule | None = None) -> bool:
        """Switch it off instead: open withdrawals go by it."""
        del request, obj
        return False


@admin.register(WithdrawalDestination)
class WithdrawalDestinationAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ("user", "label", "address", "usable_at", "removed_at")
    list_select_related = ("user",)
    search_fields = ("user__email", "address")
    ordering = ("-created_at", "-id")
    show_full_result_count = False
