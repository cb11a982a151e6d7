from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, UserChangeForm
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.accounts.models import ApiKey, Session, User
from apps.accounts.services import api_key_revoke
from apps.accounts.tokens.models import EndReason
from apps.accounts.tokens.services import session_revoke


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
    form = UserChangeForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email", "fee_tier", "is_active", "is_staff", "created_at")
    list_filter = ("is_active", "is_staff", "fee_tier")
    search_fields = ("email",)
    ordering = ("-created_at",)
    readonly_fields = ("created_at", "last_login")
    fieldsets = (
        (None, {"fields": ("email", "password", "fee_tier")}),
        ("May", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("When", {"fields": ("created_at", "last_login")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),
    )

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """People are deactivated: their journals stay."""
        del request, obj
        return False


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):  # type: ignore[misc]
    """To look at and to revoke. Keys are made where their holder sees them: the API and the command line."""

    list_display = ("prefix", "user", "name", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    list_filter = ("revoked_at",)
    search_fields = ("prefix", "user__email", "name")
    ordering = ("-created_at",)
    fields = readonly_fields = (
        "prefix", "user", "name", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at",
    )  # fmt: skip
    actions = ("revoke",)

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for api_key in queryset:
            api_key_revoke(user_id=api_key.user_id, api_key_id=api_key.pk)
        self.message_user(request, "Revoked.")

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        del request, obj
        return False


@admin.register(Session)
class SessionAdmin(ModelAdmin):  # type: ignore[misc]
    """To look at and to end. Nothing here is, or leads to, a token."""

    list_display = (
        "user",
        "device",
        "address",
        "factors",
        "created_at",
        "last_used_at",
        "revoked_at",
        "reason",
    )
    list_select_related = ("user",)
    list_filter = ("reason", "transport")
    search_fields = ("user__email", "address")
    ordering = ("-created_at",)
    show_full_result_count = False
    fields = readonly_fields = (
        "id", "user", "device", "address", "transport", "factors", "created_at", "authenticated_at", "last_used_at",
        "expires_at", "revoked_at", "reason",
    )  # fmt: skip
    actions = ("revoke",)

    @admin.action(description="Sign the selected sessions out", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        for session in queryset:
            session_revoke(
                user_id=session.user_id, session_id=session.pk, reason=EndReason.SIGNED_OUT_BY_OPERATOR
            )
        self.message_user(request, "Signed out.")

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Session | None = None) -> bool:
        del request, obj
        return False
