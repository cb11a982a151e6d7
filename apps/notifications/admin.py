from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.notifications.models import Digest, Untold


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


@admin.register(Digest)
class DigestAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ("day", "user", "state", "run_after", "attempts", "last_error")
    list_select_related = ("user",)
    list_filter = ("state",)
    search_fields = ("user__email",)
    ordering = ("-day", "-id")
    show_full_result_count = False
    fields = ("user", "day", "state", "run_after", "attempts", "last_error", "buried_at", "created_at")


@admin.register(Untold)
class UntoldAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Events that no mail could be made of. The fact stands in the log; what is missing is the person's mail."""

    list_display = ("created_at", "topic", "error", "event_id")
    list_filter = ("topic",)
    ordering = ("-created_at",)
    show_full_result_count = False
