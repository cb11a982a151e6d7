"""Collecting, for operators: what is under way, what failed, and why."""

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from apps.core import work
from apps.core.api.amounts import amount_format
from apps.deposits.kinds import SWEEP_WORK
from apps.deposits.models import Sweep
from apps.deposits.sweep_planning import sweep_again

_COLOURS = {"planned": "info", "funding": "info", "sweeping": "info", "done": "success", "failed": "warning"}


@admin.register(Sweep)
class SweepAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("address", "amount", "shown_state", "reason", "attempts", "created_at", "done_at")
    list_filter = ("state", "network", "asset")
    list_select_related = ("address", "asset", "network")
    search_fields = ("address__address", "id", "transaction__reference")
    exclude = ("lease_token",)
    ordering = ("-created_at", "-id")
    actions = ("again",)

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_delete_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    @display(description="Amount", ordering="units")  # type: ignore[untyped-decorator]
    def amount(self, sweep: Sweep) -> str:
        return f"{amount_format(sweep.units, decimals=sweep.asset.decimals)} {sweep.asset.code}"

    @display(description="state", label=_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, sweep: Sweep) -> str:
        return str(sweep.state)

    @admin.action(description="Try again now", permissions=["retry"])
    def again(self, request: HttpRequest, sweeps: QuerySet[Sweep]) -> None:
        """Dig up what was buried; failed ones are planned anew, without the rest that a failure imposes."""
        dug = planned = 0
        for sweep in sweeps:
            with transaction.atomic():
                out = work.retry(SWEEP_WORK, ids=[sweep.pk])
                anew = sweep_again(sweep_id=sweep.pk)
                if out or anew:
                    self.log_change(request, sweep, "Tried again.")
            dug, planned = dug + out, planned + anew
        messages.success(request, f"{dug} dug up, {planned} planned anew.")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("deposits.change_sweep"))
