"""People, their roles and keys, and the log of who did what, for operators."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, UserChangeForm
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import ActionForm

from apps.accounts import services
from apps.accounts.audit import admin as audit_admin  # noqa: F401 — registers the pages of the log
from apps.accounts.me.models import DataExport
from apps.accounts.models import ApiKey, Session, User
from apps.accounts.roles import STAFF_ROLES, Role, role_grant, role_revoke
from apps.accounts.signin.services import admin_password_changed
from apps.accounts.tokens.models import EndReason
from apps.accounts.tokens.services import session_revoke
from apps.core import clock
from apps.core.errors import DomainError


class PeopleForm(ActionForm):  # type: ignore[misc]
    """What the actions on people ask for, beside the choice of the action."""

    role = forms.ChoiceField(
        required=False, label="", choices=[("", "Role"), *((role.value, role.value) for role in STAFF_ROLES)]
    )
    reason = forms.CharField(
        required=False, label="", max_length=200, widget=forms.TextInput({"placeholder": "Why"})
    )


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
    """Roles are given and taken by actions; nobody has permissions of their own."""

    form = UserChangeForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email", "shown_roles", "fee_tier", "is_active", "shown_frozen", "created_at")
    list_filter = ("is_active", "is_staff", "groups", "fee_tier", ("frozen_at", admin.EmptyFieldListFilter))
    search_fields = ("email",)
    ordering = ("-created_at",)
    readonly_fields = (
        "shown_roles",
        "is_staff",
        "is_superuser",
        "frozen_at",
        "frozen_reason",
        "created_at",
        "last_login",
    )
    fieldsets = (
        (None, {"fields": ("email", "password", "fee_tier")}),
        ("May", {"fields": ("is_active", "shown_roles", "is_staff", "is_superuser")}),
        ("When", {"fields": ("created_at", "last_login", "frozen_at", "frozen_reason")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),
    )
    filter_horizontal = ()
    action_form = PeopleForm
    actions = ("give_role", "take_role", "freeze", "unfreeze")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """An email is its person's to change, who proves the new one by a code before it counts."""
        found = tuple(super().get_readonly_fields(request, obj))
        return found if obj is None else (*found, "email")

    @display(description="Roles")  # type: ignore[untyped-decorator]
    def shown_roles(self, user: User) -> str:
        return ", ".join(sorted(group.name for group in user.groups.all())) or "customer"

    @display(description="Frozen", boolean=True)  # type: ignore[untyped-decorator]
    def shown_frozen(self, user: User) -> bool:
        return user.frozen_at is not None

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> User | None:
        """Held while a form is saved: it writes the whole row back, and what changed meanwhile would be undone."""
        user: User | None = super().get_object(request, object_id, from_field)
        if user is not None and request.method == "POST":
            user.refresh_from_db(from_queryset=User.objects.select_for_update(no_key=True))
        return user

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Whoever may do everything is changed by their like only, and who closed their account by nobody."""
        if obj is not None and (
            obj.closed_at is not None or (obj.is_superuser and not request.user.is_superuser)
        ):
            return False
        return bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """People are deactivated: their journals stay."""
        del request, obj
        return False

    def has_grant_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.grant_role"))

    def has_freeze_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.freeze_user"))

    def user_change_password(
        self,
        request: HttpRequest,
        id: str,  # noqa: A002
        form_url: str = "",
    ) -> HttpResponse:
        with transaction.atomic():
            before = self.get_object(request, unquote(id))
            answer = super().user_change_password(request, id, form_url)
            now = self.get_object(request, unquote(id))
            if before is not None and now is not None and now.password != before.password:
                admin_password_changed(user_id=now.pk, request=request)
            return answer

    @admin.action(description="Give the role", permissions=["grant"])
    def give_role(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._role(request, queryset, role_grant, "has the role")

    @admin.action(description="Take the role", permissions=["grant"])
    def take_role(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._role(request, queryset, role_revoke, "has no longer the role")

    @admin.action(description="Freeze: neither buy nor withdraw for them", permissions=["freeze"])
    def freeze(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._frozen(request, queryset, services.user_freeze, "is frozen")

    @admin.action(description="Unfreeze", permissions=["freeze"])
    def unfreeze(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._frozen(request, queryset, services.user_unfreeze, "is free")

    def _role(self, request: HttpRequest, people: QuerySet[User], service: Any, done: str) -> None:
        chosen = request.POST.get("role", "")
        if chosen not in set(STAFF_ROLES):
            messages.error(request, "Choose a role.")
            return
        for user in people.order_by("email"):
            try:
                service(user_id=user.pk, role=Role(chosen), actor=cast("User", request.user))
            except DomainError as error:
                messages.error(request, f"{user.email}: {error.detail}")
            else:
                messages.success(request, f"{user.email} {done} {chosen}.")

    def _frozen(self, request: HttpRequest, people: QuerySet[User], service: Any, done: str) -> None:
        for user in people.order_by("email"):
            try:
                service(
                    user_id=user.pk, reason=request.POST.get("reason", ""), actor=cast("User", request.user)
                )
            except DomainError as error:
                messages.error(request, f"{user.email}: {error.detail}")
            else:
                messages.success(request, f"{user.email} {done}.")


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """From where and until when; the rest of a key is what it was made as."""

    networks = forms.CharField(
        required=False,
        widget=forms.Textarea({"rows": 3}),
        help_text="Addresses or CIDR, IPv4 and IPv6, one a line or with commas. Empty: from anywhere.",
    )

    class Meta:
        model = ApiKey
        fields = ("networks", "expires_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance is not None:
            self.initial["networks"] = "\n".join(self.instance.networks)

    def clean_networks(self) -> list[str]:
        try:
            return services.networks_clean(self.cleaned_data["networks"].replace(",", " ").split())
        except DomainError as error:
            raise forms.ValidationError(error.detail) from error

    def clean_expires_at(self) -> Any:
        at = self.cleaned_data["expires_at"]
        if at is not None and "expires_at" in self.changed_data and at <= clock.now():
            raise forms.ValidationError("To end a key now, revoke it.")
        return at


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):  # type: ignore[misc]
    """To look at, to limit and to revoke. Keys are made where their holder sees them: the API and the command line."""

    form = KeyForm
    list_display = (
        "prefix", "user", "name", "shown_networks", "created_at", "last_used_at", "expires_at", "revoked_at",
    )  # fmt: skip
    list_select_related = ("user",)
    list_filter = ("revoked_at",)
    search_fields = ("prefix", "user__email", "name")
    ordering = ("-created_at",)
    readonly_fields = ("prefix", "user", "name", "scopes", "created_at", "last_used_at", "revoked_at")
    fields = (
        "prefix", "user", "name", "scopes", "networks", "expires_at", "created_at", "last_used_at", "revoked_at",
    )  # fmt: skip
    actions = ("revoke",)

    @display(description="Networks")  # type: ignore[untyped-decorator]
    def shown_networks(self, api_key: ApiKey) -> str:
        return ", ".join(api_key.networks) or "anywhere"

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """What was revoked stays as it was."""
        ended = obj is not None and obj.revoked_at is not None
        return not ended and bool(super().has_change_permission(request, obj))

    def save_model(self, request: HttpRequest, obj: ApiKey, form: KeyForm, change: bool) -> None:
        values = form.cleaned_data
        services.api_key_limit(
            api_key_id=obj.pk,
            networks=values["networks"],
            expires_at=values["expires_at"],
            actor=cast("User", request.user),
        )

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for api_key in queryset:
            services.api_key_revoke(
                user_id=api_key.user_id, api_key_id=api_key.pk, actor=cast("User", request.user)
            )
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


@admin.register(DataExport)
class DataExportAdmin(ModelAdmin):  # type: ignore[misc]
    """That somebody asked, and how far it is. No link: the file is theirs."""

    list_display = (
        "user",
        "state",
        "size_bytes",
        "attempts",
        "last_error",
        "created_at",
        "ready_at",
        "expires_at",
    )
    list_select_related = ("user",)
    list_filter = ("state", ("buried_at", admin.EmptyFieldListFilter))
    search_fields = ("user__email",)
    ordering = ("-created_at",)
    exclude = ("lease_token", "leased_until")

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_change_permission(self, request: HttpRequest, obj: DataExport | None = None) -> bool:
        del request, obj
        return False

    def has_delete_permission(self, request: HttpRequest, obj: DataExport | None = None) -> bool:
        del request, obj
        return False
