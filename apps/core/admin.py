from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.core.models import Asset


@admin.register(Asset)
class AssetAdmin(ModelAdmin):  # type: ignore[misc]
    """Decimals are frozen once the asset exists: changing them would revalue every amount."""

    list_display = ("code", "name", "decimals", "created_at")
    search_fields = ("code", "name")
    ordering = ("code",)
    readonly_fields = ("created_at",)

    def get_readonly_fields(self, request: HttpRequest, obj: Asset | None = None) -> tuple[str, ...]:
        del request
        return ("created_at",) if obj is None else ("code", "decimals", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        del request, obj
        return False
