"""Deposits for operators: looked at, never edited. What is decided by hand takes two of them."""

import re
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import EmptyFieldListFilter
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import ActionForm

from apps.core.errors import DomainError, Retryable
from apps.deposits import monitor_admin, services, sweep_admin  # noqa: F401 — registers their pages
from apps.deposits.models import Deposit, DepositAddress, DepositRule, Holding

_STATE_COLOURS = {
    "credited": "success",
    "seen": "info",
    "confirming": "info",
    "ignored": "warning",
    "orphaned": "warning",
    "unsupported": "danger",
    "reversed": "danger",
    "frozen": "danger",
}


class NoteForm(ActionForm):  # type: ignore[misc]
    """Why, beside the choice of the action; the amount only where less than all is meant."""

    note = forms.CharField(required=False, label="", widget=forms.TextInput({"placeholder": "Why"}))
    units = forms.CharField(
        required=False, label="", widget=forms.TextInput({"placeholder": "Base units (all)"})
    )


class _ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """The books would no longer match what is edited here."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Deposit)
class DepositAdmin(_ReadOnlyAdmin):
    list_display = (
        "created_at",
        "user",
        "network",
        "asset",
        "amount_units",
        "measured_units",
        "shown_state",
        "reason",
        "owed_units",
        "hand_requested_by",
        "block_number",
    )
    list_filter = ("state", "reason", "network", "kind", ("gone_at", EmptyFieldListFilter))
    list_select_related = ("user", "network", "asset")
    search_fields = ("user__email", "transaction_hash", "address__address", "id")
    exclude = ("lease_token",)
    ordering = ("-created_at", "-id")
    action_form = NoteForm
    actions = ("ask", "approve", "withdraw", "check_again")

    @display(description="State", label=_STATE_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, row: Deposit) -> str:
        return str(row.state)

    # Actions ask for their own permission, since changing a deposit by form is nobody's.
    def has_decide_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("deposits.change_deposit"))

    @action(description="Ask: credit it by hand, or write off its debt", permissions=["decide"])  # type: ignore[untyped-decorator]
    def ask(self, request: HttpRequest, queryset: QuerySet[Deposit]) -> None:
        note, units = request.POST.get("note", ""), request.POST.get("units", "").strip()
        if not re.fullmatch(r"[0-9]{0,78}", units, re.ASCII):
            messages.error(request, "The amount is a whole number of base units.")
            return
        self._each(
            request,
            queryset,
            lambda row, actor: services.hand_request(
                deposit_id=row.pk, actor=actor, note=note, units=int(units) if units else None
            ),
            "asked for",
        )

    @action(description="Approve what somebody else asked for", permissions=["decide"])  # type: ignore[untyped-decorator]
    def approve(self, request: HttpRequest, queryset: QuerySet[Deposit]) -> None:
        self._each(
            request,
            queryset,
            lambda row, actor: services.hand_approve(deposit_id=row.pk, actor=actor),
            "approved",
        )

    @action(description="Withdraw what was asked for", permissions=["decide"])  # type: ignore[untyped-decorator]
    def withdraw(self, request: HttpRequest, queryset: QuerySet[Deposit]) -> None:
        self._each(
            request,
            queryset,
            lambda row, actor: services.hand_withdraw(deposit_id=row.pk, actor=actor),
            "withdrawn",
        )

    def has_recheck_permission(self, request: HttpRequest) -> bool:
        """Decides about nothing: whoever says which deposits count may have them looked at again."""
        return bool(request.user.has_perm("deposits.change_depositrule"))

    @action(description="Check again, after its token was allowed", permissions=["recheck"])  # type: ignore[untyped-decorator]
    def check_again(self, request: HttpRequest, queryset: QuerySet[Deposit]) -> None:
        count = 0
        for row in queryset.order_by("pk"):
            with transaction.atomic():
                if services.deposits_recheck(deposit_ids=[row.pk]):
                    self.log_change(request, row, "Checked again.")
                    count += 1
        messages.success(request, f"{count} deposits are checked again.")

    def _each(
        self,
        request: HttpRequest,
        queryset: QuerySet[Deposit],
        decide: Callable[[Deposit, str], Deposit],
        done: str,
    ) -> None:
        """Each deposit by itself: one that cannot does not stop the others. Who did it stands in the history."""
        count = 0
        for row in queryset.order_by("pk"):
            try:
                with transaction.atomic():
                    after = decide(row, str(request.user))
                    self.log_change(request, after, f"{done.capitalize()}; now {after.state}.")
            except DomainError as error:
                messages.warning(request, f"{row}: {error.detail}")
            except Retryable as error:
                messages.warning(request, f"{row}: try again, {error}.")
            else:
                count += 1
        if count:
            messages.success(request, f"{count} deposits {done}.")


@admin.register(DepositAddress)
class DepositAddressAdmin(_ReadOnlyAdmin):
    list_display = ("address", "user", "index", "created_at")
    list_select_related = ("user",)
    search_fields = ("address", "user__email")
    ordering = ("-created_at", "-id")


@admin.register(DepositRule)
class DepositRuleAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("asset", "enabled", "minimum_units", "credit_measured")
    list_select_related = ("asset",)
    readonly_fields = ("created_at",)

    def get_readonly_fields(self, request: HttpRequest, obj: DepositRule | None = None) -> tuple[str, ...]:
        del request
        return ("created_at",) if obj is None else ("asset", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: DepositRule | None = None) -> bool:
        del request, obj
        return False


@admin.register(Holding)
class HoldingAdmin(_ReadOnlyAdmin):
    list_display = ("address", "asset", "units")
    list_filter = ("asset",)
    list_select_related = ("address", "asset")
    search_fields = ("address__address",)
    ordering = ("asset", "-units")
