"""Who watches live, for operators. Nothing here is edited: a stream ends with its connection or its credential."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.stream.models import OpenStream


@admin.register(OpenStream)
class OpenStreamAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("user", "opened_at", "process_id")
    list_select_related = ("user",)
    search_fields = ("user__email",)
    ordering = ("-opened_at",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        del request
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_delete_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False
