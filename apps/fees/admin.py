"""Fee schedules for operators: read, and add a successor. Nothing is edited (the database refuses it too)."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.fees.models import FeeSchedule


@admin.register(FeeSchedule)
class FeeScheduleAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("tier", "asset", "bps", "min_units", "max_units", "valid_from")
    list_filter = ("tier",)
    list_select_related = ("asset",)
    ordering = ("tier", "asset_id", "-valid_from")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
