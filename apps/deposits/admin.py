"""Deposits for operators: looked at, never edited. What is decided by hand takes two of them."""

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

from apps.core.api.amounts import AmountError, amount_format, amount_parse
from apps.core.errors import DomainError, Retryable
from apps.core.models import Asset
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
    amount = forms.CharField(
        required=False, label="", widget=forms.TextInput({"placeholder": "Amount (all)"})
    )


def amount_shown(units: int | None, asset: Asset | None) -> str:
    """In the asset's units; of a token that is not registered nobody knows the decimals."""
    if units is None:
        return "-"
    if asset is None:
        return f"{units} base units"
    return f"{amount_format(units, decimals=asset.decimals)} {asset.code}"


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
        "amount",
        "measured",
        "shown_state",
        "reason",
        "owed",
        "hand_requested_by",
        "block_number",
    )
    list_filter = ("state", "reason", "asset", "network", "kind", ("gone_at", EmptyFieldListFilter))
    list_select_related = ("user", "network", "asset")
    search_fields = ("user__email", "transaction_hash", "address__address", "sender", "contract", "id")
    exclude = ("lease_token",)
    ordering = ("-created_at", "-id")
    action_form = NoteForm
    actions = ("ask", "approve", "withdraw", "check_again")

    @display(description="State", label=_STATE_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, row: Deposit) -> str:
        return str(row.state)

    @display(description="Amount", ordering="amount_units")  # type: ignore[untyped-decorator]
    def amount(self, row: Deposit) -> str:
        return amount_shown(row.amount_units, row.asset)

    @display(description="Measured")  # type: ignore[untyped-decorator]
    def measured(self, row: Deposit) -> str:
        return amount_shown(row.measured_units, row.asset)

    @display(description="Owed", ordering="owed_units")  # type: ignore[untyped-decorator]
    def owed(self, row: Deposit) -> str:
        return amount_shown(row.owed_units or None, row.asset)

    # Actions ask for their own permission, since changing a deposit by form is nobody's.
    def has_decide_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("deposits.change_deposit"))

    @action(description="Ask: credit it by hand, or write off its debt", permissions=["decide"])  # type: ignore[untyped-decorator]
    def ask(self, request: HttpRequest, queryset: QuerySet[Deposit]) -> None:
        note, amount = request.POST.get("note", ""), request.POST.get("amount", "").strip()

        def units(row: Deposit) -> int | None:
            try:
                return (
                    amount_parse(amount, decimals=row.asset.decimals if row.asset else 0) if amount else None
                )
            except AmountError as error:
                raise DomainError(error.code, str(error), pointer="/amount") from None

        self._each(
            request,
            queryset,
            lambda row, actor: services.hand_request(
                deposit_id=row.pk, actor=actor, note=note, units=units(row)
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
        for row in queryset.select_related("asset").order_by("pk"):
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
    list_display = ("asset", "enabled", "minimum", "credit_measured")
    list_select_related = ("asset",)
    readonly_fields = ("created_at",)

    @display(description="Minimum")  # type: ignore[untyped-decorator]
    def minimum(self, row: DepositRule) -> str:
        return amount_shown(row.minimum_units, row.asset)

    def get_readonly_fields(self, request: HttpRequest, obj: DepositRule | None = None) -> tuple[str, ...]:
        del request
        return ("created_at",) if obj is None else ("asset", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: DepositRule | None = None) -> bool:
        del request, obj
        return False


@admin.register(Holding)
class HoldingAdmin(_ReadOnlyAdmin):
    list_display = ("address", "asset", "amount")
    list_filter = ("asset",)
    list_select_related = ("address", "asset")
    search_fields = ("address__address", "address__user__email")
    ordering = ("asset", "-units")

    @display(description="Amount", ordering="units")  # type: ignore[untyped-decorator]
    def amount(self, row: Holding) -> str:
        return amount_shown(row.units, row.asset)
