"""The switchboard, the waitlist and invitations, for operators."""

import csv
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from apps.accounts.audit import audit_record
from apps.accounts.models import User
from apps.core import clock
from apps.core.errors import DomainError
from apps.launch import invitations
from apps.launch.domain import ANSWERS, BatchState, State
from apps.launch.models import Invitation, InvitationBatch, PlatformState, WaitlistEntry
from apps.launch.states import platform_read, state_set
from apps.launch.switches import switch_allow, switch_stop, switches_read
from apps.treasury.models import Activity, PauseSource

_COLOURS = {"live": "success", "pre_launch": "info", "paused": "warning", "maintenance": "danger"}


class _Kept:
    """To look at: what changes it are services."""

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_delete_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False


class StateForm(forms.Form):
    """`seen` is the number of the change that the page showed."""

    state = forms.ChoiceField(choices=State.choices)
    reason = forms.CharField(max_length=300)
    message = forms.CharField(max_length=300, required=False)
    minutes = forms.IntegerField(min_value=1, max_value=10_080, required=False)
    seen = forms.IntegerField(min_value=0)


class SwitchForm(forms.Form):
    activity = forms.ChoiceField(choices=Activity.choices)
    to = forms.ChoiceField(choices=[("stop", "stop"), ("allow", "allow")])
    reason = forms.CharField(max_length=300)


@admin.register(PlatformState)
class PlatformStateAdmin(_Kept, ModelAdmin):  # type: ignore[misc]
    """The list is the history; the page above it (`switchboard`) is where everything is switched."""

    list_display = ("number", "shown_state", "reason", "message", "until", "actor", "created_at")
    ordering = ("-number",)
    change_list_template = "admin/launch/states.html"

    @display(description="state", label=_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, row: PlatformState) -> str:
        return row.state

    def get_urls(self) -> list[Any]:
        name = "launch_switchboard"
        return [
            path("switchboard/", self.admin_site.admin_view(self.switchboard), name=name),
            *super().get_urls(),
        ]

    def has_switch_permission(self, request: HttpRequest) -> bool:
        """Who may change the state, and open or close sign-up: a permission that no form asks for."""
        return bool(request.user.has_perm("launch.change_platformstate"))

    def _may(self, request: HttpRequest, activity: Activity, to: str) -> bool:
        """Stopping money is easier than letting it go again, as on the page of pauses."""
        if activity == Activity.SIGNING_UP:
            return self.has_switch_permission(request)
        return bool(request.user.has_perm(f"treasury.{'add' if to == 'stop' else 'change'}_pause"))

    def switchboard(self, request: HttpRequest) -> HttpResponse:
        """State and kill switches on one page; each press asks for a reason and is held against what was seen."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            self._switch(request)
            return HttpResponseRedirect(reverse("admin:launch_switchboard"))
        last = PlatformState.objects.order_by("-number").first()
        context = {
            **self.admin_site.each_context(request),
            "title": "Switchboard",
            "opts": self.model._meta,
            "platform": platform_read(),
            "last": last,
            "seen": last.number if last else 0,
            "states": State.choices,
            "may": self.has_switch_permission(request),
            "switches": [
                {
                    "activity": activity,
                    "pauses": pauses,
                    "stopped": any(one.asset_id is None for one in pauses),
                    "may_stop": self._may(request, activity, "stop"),
                    "may_allow": self._may(request, activity, "allow"),
                    "liftable": any(
                        one.asset_id is None and one.source == PauseSource.OPERATOR for one in pauses
                    ),
                }
                for activity, pauses in switches_read()
            ],
            "answers": [
                (route_class.label, [state in states for state in State])
                for route_class, states in ANSWERS.items()
            ],
        }
        return TemplateResponse(request, "admin/launch/switchboard.html", context)

    def _switch(self, request: HttpRequest) -> None:
        form: forms.Form = StateForm(request.POST) if "state" in request.POST else SwitchForm(request.POST)
        if not form.is_valid():
            messages.error(
                request,
                "; ".join(f"{name}: {' '.join(map(str, said))}" for name, said in form.errors.items()),
            )
            return
        values, actor = form.cleaned_data, str(request.user)
        allowed = (
            self.has_switch_permission(request)
            if isinstance(form, StateForm)
            else self._may(request, Activity(values["activity"]), values["to"])
        )
        if not allowed:
            raise PermissionDenied
        try:
            if isinstance(form, StateForm):
                until = clock.now() + timedelta(minutes=values["minutes"]) if values["minutes"] else None
                row = state_set(
                    state=State(values["state"]),
                    reason=values["reason"],
                    message=values["message"],
                    until=until,
                    actor=actor,
                    seen=values["seen"],
                )
                self.log_addition(request, row, f"{row.state}: {row.reason}"[:200])
                messages.success(request, f"The platform is {row.get_state_display()}.")
                return
            switch = switch_stop if values["to"] == "stop" else switch_allow
            pause = switch(activity=Activity(values["activity"]), reason=values["reason"], actor=actor)
            self.log_change(request, pause, f"{values['to']}: {values['reason']}"[:200])
            messages.success(request, f"{Activity(values['activity']).label}: {values['to']}.")
        except DomainError as error:
            messages.error(request, error.detail)


class _Echo:
    """What csv writes to: hands each line back, so that the export is streamed."""

    def write(self, line: str) -> str:
        return line


def _plain(value: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@admin.register(WaitlistEntry)
class WaitlistEntryAdmin(_Kept, ModelAdmin):  # type: ignore[misc]
    list_display = ("email", "state", "rank", "referral_code", "referrals", "created_at", "proved_at")
    list_filter = ("state",)
    search_fields = ("email", "referral_code")
    ordering = ("rank", "created_at")
    exclude = ("code_hash", "ticket_hash", "code_tries")
    show_full_result_count = False
    actions = ("export", "invite")

    @admin.action(description="Export as CSV", permissions=["export"])
    def export(self, request: HttpRequest, rows: QuerySet[WaitlistEntry]) -> StreamingHttpResponse:
        """Everything that is selected, streamed. Emails leave the platform: who took them is in the audit log."""
        with transaction.atomic():
            audit_record(
                actor=cast("User", request.user),
                action="admin.launch.waitlistentry.export",
                target_type="waitlistentry",
                target_id="selected",
                before=None,
                after={"rows": rows.count()},
                request=request,
            )
        names = (
            "email",
            "language",
            "state",
            "rank",
            "referral_code",
            "referrals",
            "created_at",
            "proved_at",
        )
        writer = csv.writer(_Echo())

        def lines() -> Iterator[str]:
            yield writer.writerow(names)
            for values in rows.order_by("rank", "created_at").values_list(*names).iterator(chunk_size=1_000):
                yield writer.writerow([_plain(value) for value in values])

        answer = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="waitlist.csv"'
        answer["Cache-Control"] = "no-store"
        return answer

    @admin.action(description="Invite those who wait", permissions=["invite"])
    def invite(self, request: HttpRequest, rows: QuerySet[WaitlistEntry]) -> None:
        try:
            batch = invitations.batch_create(
                name=f"{rows.count()} from the waitlist",
                actor=str(request.user),
                entry_ids=list(rows.values_list("pk", flat=True)),
            )
        except DomainError as error:
            messages.error(request, error.detail)
        else:
            messages.success(request, f"{batch.total} invitations are on their way.")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("launch.export_waitlistentry"))

    def has_invite_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("launch.add_invitationbatch"))


class BatchForm(forms.ModelForm):  # type: ignore[type-arg]
    next_in_line = forms.IntegerField(
        min_value=0, required=False, help_text="So many of those who wait, the first of them first."
    )
    emails = forms.CharField(
        widget=UnfoldAdminTextareaWidget,
        required=False,
        help_text="One a line, beside or instead of the waitlist.",
    )

    class Meta:
        model = InvitationBatch
        fields = ("name", "valid_days")

    def clean(self) -> dict[str, Any] | None:
        values = super().clean() or {}
        if not values.get("next_in_line") and not str(values.get("emails", "")).strip():
            raise forms.ValidationError("Say whom to invite.")
        return values


@admin.register(InvitationBatch)
class InvitationBatchAdmin(ModelAdmin):  # type: ignore[misc]
    form = BatchForm
    list_display = (
        "name",
        "shown_state",
        "progress",
        "n_accepted",
        "n_failed",
        "valid_days",
        "actor",
        "created_at",
    )
    ordering = ("-created_at", "-id")
    actions = ("pause", "resume", "retry", "cancel")

    def get_queryset(self, request: HttpRequest) -> QuerySet[InvitationBatch]:
        """Counted with the page in one query, not per row."""
        return invitations.progress_annotate(super().get_queryset(request))

    @display(description="state", label={"running": "success", "paused": "warning", "cancelled": "danger"})  # type: ignore[untyped-decorator]
    def shown_state(self, batch: InvitationBatch) -> str:
        return batch.state

    @display(description="sent")  # type: ignore[untyped-decorator]
    def progress(self, batch: Any) -> str:
        return f"{batch.sent} of {batch.total}"

    @display(description="accepted")  # type: ignore[untyped-decorator]
    def n_accepted(self, batch: Any) -> str:
        return str(batch.accepted)

    @display(description="failed")  # type: ignore[untyped-decorator]
    def n_failed(self, batch: Any) -> str:
        return str(batch.failed)

    def save_model(self, request: HttpRequest, obj: InvitationBatch, form: Any, change: bool) -> None:
        del change
        values = form.cleaned_data
        obj.pk = invitations.batch_create(
            name=obj.name,
            actor=str(request.user),
            emails=str(values.get("emails") or "").replace(",", "\n").split(),
            next_in_line=values.get("next_in_line") or 0,
            valid_days=obj.valid_days,
        ).pk

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """What the service refuses is said on the form's page; Django has rolled back by then."""
        try:
            answer: HttpResponse = super().changeform_view(request, *args, **kwargs)
        except DomainError as error:
            messages.error(request, error.detail)
            return HttpResponseRedirect(request.path)
        return answer

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only by actions."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_run_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("launch.change_invitationbatch"))

    @admin.action(description="Pause", permissions=["run"])
    def pause(self, request: HttpRequest, rows: QuerySet[InvitationBatch]) -> None:
        self._each(request, rows, invitations.batch_pause)

    @admin.action(description="Go on", permissions=["run"])
    def resume(self, request: HttpRequest, rows: QuerySet[InvitationBatch]) -> None:
        self._each(request, rows, invitations.batch_resume)

    @admin.action(description="Try failed ones again", permissions=["run"])
    def retry(self, request: HttpRequest, rows: QuerySet[InvitationBatch]) -> None:
        count = sum(invitations.batch_retry(batch_id=pk) for pk in rows.values_list("pk", flat=True))
        messages.success(request, f"{count} are tried again.")

    @admin.action(description="Cancel, and take back what is not used", permissions=["run"])
    def cancel(self, request: HttpRequest, rows: QuerySet[InvitationBatch]) -> None:
        self._each(request, rows, invitations.batch_cancel)

    def _each(self, request: HttpRequest, rows: QuerySet[InvitationBatch], move: Any) -> None:
        for pk in rows.values_list("pk", flat=True):
            try:
                batch = move(batch_id=pk)
                self.log_change(request, batch, f"now {BatchState(batch.state).label.lower()}")
            except DomainError as error:
                messages.error(request, error.detail)
            else:
                messages.success(request, f"{batch.name}: {batch.get_state_display()}.")


@admin.register(Invitation)
class InvitationAdmin(_Kept, ModelAdmin):  # type: ignore[misc]
    list_display = (
        "email",
        "batch",
        "state",
        "attempts",
        "last_error",
        "sent_at",
        "expires_at",
        "accepted_at",
    )
    list_filter = ("state", ("buried_at", admin.EmptyFieldListFilter))
    list_select_related = ("batch",)
    search_fields = ("email", "batch__name")
    ordering = ("-created_at", "-id")
    exclude = ("token_hash", "lease_token", "leased_until")
    show_full_result_count = False
