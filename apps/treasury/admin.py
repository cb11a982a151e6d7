"""Kill switches and the proof of reserves, for operators."""

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from apps.core.errors import DomainError
from apps.treasury import pauses
from apps.treasury.models import Activity, Pause, PauseSource, ReservesSnapshot

_VERDICTS = {"matched": "success", "checking": "warning", "diverged": "danger", "unproved": "warning"}


class _Kept:
    """Rows that are evidence: nothing of them is edited or deleted."""

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_delete_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False


@admin.register(Pause)
class PauseAdmin(_Kept, ModelAdmin):  # type: ignore[misc]
    list_display = ("activity", "shown_asset", "source", "reason", "actor", "created_at", "shown_state")
    list_filter = ("activity", "source", ("lifted_at", admin.EmptyFieldListFilter))
    list_select_related = ("asset",)
    ordering = ("-created_at", "-id")
    actions = ("lift",)
    fields = ("activity", "asset", "reason")

    def get_fields(self, request: HttpRequest, obj: Pause | None = None) -> Any:
        everything = [field.name for field in Pause._meta.fields]
        return self.fields if obj is None else everything

    def get_form(self, request: HttpRequest, obj: Pause | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        if obj is None:
            form.base_fields["asset"].help_text = "Left empty, all of them."
        return form

    def save_model(self, request: HttpRequest, obj: Pause, form: Any, change: bool) -> None:
        """A new pause, through the service: with its event, and none twice."""
        made = pauses.pause_set(
            activities=[Activity(obj.activity)],
            asset_id=obj.asset_id,
            reason=obj.reason,
            actor=str(request.user),
        )
        if made:
            obj.pk = made[0].pk
            return
        standing = Pause.objects.filter(
            activity=obj.activity, source=PauseSource.OPERATOR, lifted_at__isnull=True
        )
        obj.pk = next(pause.pk for pause in standing if pause.asset_id == obj.asset_id)
        messages.warning(request, "That was paused already; the first pause stands.")

    @display(description="asset")  # type: ignore[untyped-decorator]
    def shown_asset(self, pause: Pause) -> str:
        return str(pause.asset) if pause.asset_id else "everything"

    @display(description="state", label={"active": "danger", "lifted": "success"})  # type: ignore[untyped-decorator]
    def shown_state(self, pause: Pause) -> str:
        return "lifted" if pause.lifted_at else "active"

    @admin.action(description="Lift: allow it again", permissions=["lift"])
    def lift(self, request: HttpRequest, rows: QuerySet[Pause]) -> None:
        for pause in rows.filter(lifted_at__isnull=True):
            try:
                with transaction.atomic():
                    pauses.pause_lift(pause_id=pause.pk, actor=str(request.user), note="lifted in the admin")
                    self.log_change(request, pause, "Lifted.")
            except DomainError as error:
                messages.error(request, error.detail)
            else:
                messages.success(request, f"{pause} may go on.")

    def has_lift_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("treasury.change_pause"))


@admin.register(ReservesSnapshot)
class ReservesAdmin(_Kept, ModelAdmin):  # type: ignore[misc]
    list_display = (
        "asset", "network", "shown_verdict", "liabilities_units", "chain_units", "ledger_units", "in_flight_units",
        "shown_difference", "block_number", "since_block", "looked_at", "reason",
    )  # fmt: skip
    list_filter = ("verdict", "network")
    list_select_related = ("asset", "network")
    ordering = ("network__name", "asset__code")

    def has_add_permission(self, request: HttpRequest) -> bool:
        del request
        return False

    @display(description="verdict", label=_VERDICTS)  # type: ignore[untyped-decorator]
    def shown_verdict(self, row: ReservesSnapshot) -> str:
        return str(row.verdict)

    @display(description="difference")  # type: ignore[untyped-decorator]
    def shown_difference(self, row: ReservesSnapshot) -> str:
        return f"{row.difference_units:+d}"
