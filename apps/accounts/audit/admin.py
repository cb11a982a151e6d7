"""The log, to look at: who did what, searched by each thing that has an index."""

from typing import Any
from uuid import UUID

import orjson
from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from unfold.admin import ModelAdmin
from unfold.decorators import display

from apps.accounts.audit.models import AuditCheck, AuditRecord, AuditSeal

_MISSING = object()


class _Kept(ModelAdmin):  # type: ignore[misc]
    """Evidence: nothing of it is added, edited or deleted here."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AuditRecord)
class AuditRecordAdmin(_Kept):
    list_display = ("occurred_at", "actor", "action", "target", "shown_changes", "address")
    search_fields = ("action",)
    search_help_text = "An email or id (of who did it, or of what it was done to), or how an action begins."
    ordering = ("-id",)
    fields = (
        "id", "occurred_at", "actor", "actor_id", "via", "action", "target", "address", "request_id",
        "shown_before_after", "shown_seal",
    )  # fmt: skip
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditRecord]:
        from apps.accounts.models import User

        email = User.objects.filter(id=OuterRef("actor_id")).values("email")[:1]
        records: QuerySet[AuditRecord] = super().get_queryset(request)
        return records.annotate(actor_email=Subquery(email))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditRecord], search_term: str
    ) -> tuple[QuerySet[AuditRecord], bool]:
        """Each kind of term has its index; nothing here reads the whole log for a substring."""
        from apps.accounts.models import User

        term = search_term.strip()
        if not term:
            return queryset, False
        if "@" in term:
            person = User.objects.filter(email=term.lower()).values_list("pk", flat=True).first()
            return (queryset.filter(_about(person)) if person is not None else queryset.none()), False
        try:
            return queryset.filter(_about(UUID(term))), False
        except ValueError:
            return queryset.filter(Q(action__startswith=term)), False

    @display(description="Who")  # type: ignore[untyped-decorator]
    def actor(self, row: Any) -> str:
        return row.actor_email or (str(row.actor_id) if row.actor_id else row.actor_name or "nobody known")

    @display(description="To what")  # type: ignore[untyped-decorator]
    def target(self, row: AuditRecord) -> str:
        return f"{row.target_type} {row.target_id}"

    @display(description="What changed")  # type: ignore[untyped-decorator]
    def shown_changes(self, row: AuditRecord) -> str:
        names = {**(row.before or {}), **(row.after or {})}
        return ", ".join(names)[:80]

    @display(description="Before and after")  # type: ignore[untyped-decorator]
    def shown_before_after(self, row: AuditRecord) -> str:
        before, after = row.before or {}, row.after or {}
        lines = [
            (name, _pretty(before.get(name, _MISSING)), _pretty(after.get(name, _MISSING)))
            for name in {**before, **after}
        ]
        body = format_html_join(
            "", '<tr><th class="pr-6 text-left">{}</th><td class="pr-6">{}</td><td>{}</td></tr>', lines
        )
        head = mark_safe(
            '<tr><th></th><th class="pr-6 text-left">before</th><th class="text-left">after</th></tr>'
        )
        return format_html("<table>{}{}</table>", head, body) if lines else "-"

    @display(description="Seal")  # type: ignore[untyped-decorator]
    def shown_seal(self, row: AuditRecord) -> str:
        seal = AuditSeal.objects.filter(record_id=row.pk).first()
        return f"{seal.number}: {bytes(seal.digest).hex()}" if seal else "in a few seconds"


def _about(some_id: UUID) -> Q:
    """Done by, or to, what has the id."""
    return Q(actor_id=some_id) | Q(target_id=str(some_id))


def _pretty(value: Any) -> str:
    if value is _MISSING:
        return "-"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@admin.register(AuditCheck)
class AuditCheckAdmin(_Kept):
    list_display = ("started_at", "finished_at", "position", "shown_verdict")
    ordering = ("-started_at",)
    fields = ("started_at", "finished_at", "position", "shown_digest", "violations")
    readonly_fields = ("shown_digest",)

    @display(description="Verdict", label={"holds": "success", "BROKEN": "danger", "under way": "info"})  # type: ignore[untyped-decorator]
    def shown_verdict(self, check: AuditCheck) -> str:
        if check.violations:
            return "BROKEN"
        return "holds" if check.finished_at else "under way"

    @display(description="Head")  # type: ignore[untyped-decorator]
    def shown_digest(self, check: AuditCheck) -> str:
        return f"{check.position}:{bytes(check.digest).hex()}"
