"""Mail for operators: what was sent and what was not and why, dead letters, suppressed addresses, the gallery."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from apps.core import work
from apps.mail import gallery, kinds
from apps.mail.models import Letter, Message, ProviderEvent, Suppression, Unsubscription
from apps.mail.suppressing import suppressions_release

_COLOURS = {
    "sent": "success",
    "queued": "info",
    "queued_bulk": "info",
    "suppressed": "warning",
    "buried": "danger",
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


class DeadLetterFilter(admin.SimpleListFilter):
    title = "given up"
    parameter_name = "dead"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        del request, model_admin
        return [("yes", "Dead letters"), ("no", "Others")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        del request
        if self.value() is None:
            return queryset
        return queryset.filter(buried_at__isnull=self.value() == "no")


@admin.register(Message)
class MessageAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Filter by “Dead letters” for what needs a hand. Secrets are never shown."""

    list_display = ("created_at", "to", "template", "shown_state", "suppressed_for", "sent_at", "last_error")
    list_filter = (DeadLetterFilter, "state", "suppressed_for", "template")
    search_fields = ("to", "key", "provider_id")
    ordering = ("-created_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    fields = (
        "to", "template", "language", "essential", "state", "suppressed_for", "context", "key", "created_at",
        "run_after", "expires_at", "sent_at", "provider_id", "attempts", "last_error", "buried_at",
    )  # fmt: skip
    actions = ("send_again",)
    actions_list = ("show_gallery",)

    @display(description="State", label=_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, row: Message) -> str:
        return "buried" if row.buried_at is not None and row.state.startswith("queued") else row.state

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("mail.change_message"))

    @admin.action(description="Try the selected dead letters again", permissions=["retry"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        rows = list(queryset.filter(buried_at__isnull=False))
        ids = [row.pk for row in rows]
        count = (
            sum(work.retry(kind, ids=ids) for kind in (kinds.SEND_WORK, kinds.SEND_BULK_WORK)) if ids else 0
        )
        for row in rows:
            self.log_change(request, row, "Tried again")
        self.message_user(request, f"{count} will be tried again.", messages.SUCCESS)

    @action(description="Templates", url_path="templates", permissions=["view"])  # type: ignore[untyped-decorator]
    def show_gallery(self, request: HttpRequest) -> HttpResponse:
        del request
        return redirect("admin:mail_message_gallery")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("gallery/", view(self.gallery), name="mail_message_gallery"),
            path("gallery/<str:name>/<str:form>/", view(self.gallery_one), name="mail_message_gallery_one"),
        ]
        return own + list(super().get_urls())

    def gallery(self, request: HttpRequest) -> HttpResponse:
        """Every letter with the newest real context there is, or a made-up one."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Mail templates",
            "opts": self.model._meta,
            "letters": gallery.letters(),
        }
        return TemplateResponse(request, "admin/mail/gallery.html", context)

    def gallery_one(self, request: HttpRequest, name: str, form: str) -> HttpResponse:
        """One letter as it is sent. Its page may do nothing but look like a mail."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            shown = gallery.letter(name, sample=request.GET.get("with") == "sample")
        except ValueError:
            raise Http404 from None
        if form == "text":
            return HttpResponse(shown.rendered.text, content_type="text/plain; charset=utf-8")
        if form != "html":
            raise Http404
        return HttpResponse(shown.rendered.html)


@admin.register(Letter)
class LetterAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """The mailbox of the database transport: development and demonstrations. It shows codes, as a mailbox does."""

    list_display = ("created_at", "to", "template", "subject")
    list_select_related = ("message",)
    search_fields = ("to",)
    ordering = ("-created_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    fields = readonly_fields = ("to", "created_at", "subject", "text")

    @display(description="Template")  # type: ignore[untyped-decorator]
    def template(self, row: Letter) -> str:
        return row.message.template

    @display(description="Subject")  # type: ignore[untyped-decorator]
    def subject(self, row: Letter) -> str:
        return gallery.opened(row).subject

    @display(description="Text")  # type: ignore[untyped-decorator]
    def text(self, row: Letter) -> str:
        return gallery.opened(row).text


@admin.register(Suppression)
class SuppressionAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Addresses that are written to no more. Release one when its owner says that it works again."""

    list_display = ("created_at", "address", "reason", "detail", "released_at")
    list_filter = ("reason", ("released_at", admin.EmptyFieldListFilter))
    search_fields = ("address",)
    ordering = ("-created_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    fields = ("address", "reason", "detail", "message", "created_at", "released_at")
    actions = ("release",)

    def has_release_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("mail.change_suppression"))

    @admin.action(description="Release: write to the selected addresses again", permissions=["release"])
    def release(self, request: HttpRequest, queryset: QuerySet[Suppression]) -> None:
        rows = list(queryset.filter(released_at__isnull=True))
        count = suppressions_release(ids=[row.pk for row in rows])
        for row in rows:
            self.log_change(request, row, "Released")
        self.message_user(request, f"{count} released.", messages.SUCCESS)


@admin.register(Unsubscription)
class UnsubscriptionAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ("created_at", "address", "kind")
    list_filter = ("kind",)
    search_fields = ("address",)
    ordering = ("-created_at", "-id")
    show_full_result_count = False


@admin.register(ProviderEvent)
class ProviderEventAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ("received_at", "provider", "kind", "address", "detail")
    list_filter = ("kind", "provider")
    search_fields = ("address", "external_id")
    ordering = ("-received_at", "-id")
    show_full_result_count = False
