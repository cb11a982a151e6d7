"""The chain for operators: health, halting, and what became of each transaction. No key and no URL is shown."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Field, QuerySet, URLField
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.forms import ActionForm

from apps.chain import services
from apps.chain.failover import THRESHOLD
from apps.chain.models import (
    Network,
    OutboundTransaction,
    Recheck,
    RpcEndpoint,
    SignerRule,
    Token,
    TransactionAttempt,
    Wallet,
    WalletCap,
)
from apps.core.errors import DomainError


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


@admin.register(Network)
class NetworkAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = (
        "name",
        "chain_id",
        "status",
        "watched_block",
        "watched_at",
        "confirmations",
        "endpoints_usable",
    )
    readonly_fields = (
        "chain_id",
        "native_asset",
        "watched_block",
        "watched_at",
        "halted_at",
        "halted_reason",
    )
    fields = (
        "name", "chain_id", "native_asset", "confirmations", "block_time_seconds", "max_fee_cap_units",
        "priority_fee_cap_units", "gas_limit_cap", "stuck_after_blocks", "lag_blocks", "explorer_url", "watched_block",
        "watched_at", "halted_at", "halted_reason",
    )  # fmt: skip
    actions = ("halt", "resume")

    def formfield_for_dbfield(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        if isinstance(db_field, URLField):
            kwargs["assume_scheme"] = "https"
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Network]:
        found: QuerySet[Network] = super().get_queryset(request).prefetch_related("endpoints")
        return found

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Networks are made where their endpoints and rules are: by the setup command."""
        del request
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Network | None = None) -> bool:
        del request, obj
        return False

    @display(description="status", label={"running": "success", "halted": "danger"})  # type: ignore[untyped-decorator]
    def status(self, network: Network) -> str:
        return "halted" if network.halted_at else "running"

    @display(description="endpoints usable")  # type: ignore[untyped-decorator]
    def endpoints_usable(self, network: Network) -> str:
        rows = [row for row in network.endpoints.all() if row.enabled]
        return f"{sum(row.failures < THRESHOLD for row in rows)} of {len(rows)}"

    @admin.action(description="Halt: sign, send and conclude nothing", permissions=["change"])
    def halt(self, request: HttpRequest, networks: QuerySet[Network]) -> None:
        for network in networks:
            with transaction.atomic():
                services.network_halt(network_id=network.pk, reason=f"halted by {request.user}")
                self.log_change(request, network, "Halted.")
        messages.success(request, "Halted.")

    @admin.action(description="Resume with the chain as it is now", permissions=["change"])
    def resume(self, request: HttpRequest, networks: QuerySet[Network]) -> None:
        for network in networks:
            with transaction.atomic():
                doubtful = services.network_resume(network_id=network.pk, actor=str(request.user))
                self.log_change(request, network, f"Resumed; {len(doubtful)} to check.")
            messages.success(request, f"{network} resumed.")
            if doubtful:
                messages.warning(request, f"{len(doubtful)} final transactions are looked for: see Rechecks.")


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]
    """The URL is written and never shown again."""

    url = forms.CharField(
        required=False,
        widget=forms.PasswordInput,
        help_text="Left empty, the present URL stays.",
        max_length=500,
    )

    class Meta:
        model = RpcEndpoint
        fields = ("network", "name", "priority", "enabled")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        url = cleaned.get("url", "")
        if not url and self.instance._state.adding:
            raise forms.ValidationError({"url": "A new endpoint needs a URL."})
        if url and not url.startswith(("http://", "https://")):
            raise forms.ValidationError({"url": "A URL starts with http:// or https://."})
        return cleaned


@admin.register(RpcEndpoint)
class RpcEndpointAdmin(ModelAdmin):  # type: ignore[misc]
    form = EndpointForm
    list_display = (
        "name",
        "network",
        "priority",
        "enabled",
        "breaker",
        "last_block",
        "latency_ms",
        "last_error",
    )
    list_filter = ("network", "enabled")
    list_select_related = ("network",)

    @display(description="breaker", label={"closed": "success", "open": "danger"})  # type: ignore[untyped-decorator]
    def breaker(self, row: RpcEndpoint) -> str:
        return "open" if row.failures >= THRESHOLD else "closed"

    def save_model(self, request: HttpRequest, obj: RpcEndpoint, form: EndpointForm, change: bool) -> None:
        url = form.cleaned_data.get("url", "")
        if change:
            RpcEndpoint.objects.filter(pk=obj.pk).update(
                network=obj.network, name=obj.name, priority=obj.priority, enabled=obj.enabled
            )
        if url:
            saved = services.endpoint_add(
                network_id=obj.network_id, name=obj.name, url=url, priority=obj.priority
            )
            obj.pk = saved.pk


@admin.register(Token)
class TokenAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("asset", "network", "address", "decimals", "enabled")
    list_select_related = ("asset", "network")
    readonly_fields = ("asset", "network", "address", "decimals")
    fields = (*readonly_fields, "enabled")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A token is registered by a service, which reads its decimals on chain."""
        del request
        return False


class CapInline(TabularInline):  # type: ignore[misc]
    model = WalletCap
    extra = 0


@admin.register(Wallet)
class WalletAdmin(ModelAdmin):  # type: ignore[misc]
    """The key is in no field of these pages, not even encrypted."""

    list_display = ("address", "name", "role", "enabled", "created_at")
    list_filter = ("role", "enabled")
    readonly_fields = ("address", "role", "created_at")
    fields = ("address", "role", "name", "enabled", "created_at")
    inlines = (CapInline,)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """`manage.py chain wallet create|import` makes wallets, where SIGNER_KEYS are."""
        del request
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Wallet | None = None) -> bool:
        del request, obj
        return False


@admin.register(SignerRule)
class SignerRuleAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = (
        "__str__",
        "network",
        "wallet_role",
        "amount_path",
        "recipient_path",
        "recipient",
        "counts_daily",
    )
    list_filter = ("network", "wallet_role")
    list_select_related = ("network",)


class AttemptInline(ReadOnly, TabularInline):  # type: ignore[misc]
    model = TransactionAttempt
    fk_name = "transaction"
    extra = 0
    fields = (
        "number", "kind", "nonce", "hash", "max_fee_units", "priority_fee_units", "broadcasts", "sent_at", "sent_block",
    )  # fmt: skip
    ordering = ("nonce", "number")


@admin.register(OutboundTransaction)
class OutboundTransactionAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = (
        "reference",
        "purpose",
        "colored_state",
        "network",
        "nonce",
        "block_number",
        "attempts",
        "created_at",
    )
    list_filter = ("state", "network", "purpose", ("buried_at", admin.EmptyFieldListFilter))
    list_select_related = ("network",)
    search_fields = ("reference", "attempts_made__hash")
    ordering = ("-id",)
    date_hierarchy = "created_at"
    inlines = (AttemptInline,)
    exclude = ("lease_token",)
    actions = ("retry", "cancel")

    @display(  # type: ignore[untyped-decorator]
        description="state",
        label={
            "confirmed": "success",
            "reverted": "danger",
            "failed": "danger",
            "cancelled": "warning",
            "superseded": "warning",
        },
    )
    def colored_state(self, row: OutboundTransaction) -> str:
        return str(row.state)

    def has_intervene_permission(self, request: HttpRequest) -> bool:
        """Of its own kind: changing a transaction by form is nobody's."""
        return bool(request.user.has_perm("chain.change_outboundtransaction"))

    @admin.action(description="Retry what was buried", permissions=["intervene"])
    def retry(self, request: HttpRequest, rows: QuerySet[OutboundTransaction]) -> None:
        done = 0
        for row in rows:
            with transaction.atomic():
                if services.transaction_retry(transaction_id=row.pk):
                    self.log_change(request, row, "Dug up.")
                    done += 1
        messages.success(request, f"{done} dug up.")

    @admin.action(description="Cancel (by a self-transfer where it was sent)", permissions=["intervene"])
    def cancel(self, request: HttpRequest, rows: QuerySet[OutboundTransaction]) -> None:
        for row in rows:
            try:
                with transaction.atomic():
                    services.transaction_cancel(transaction_id=row.pk)
                    self.log_change(request, row, "Given up.")
            except DomainError as error:
                messages.error(request, f"{row.reference}: {error.detail}")
            else:
                messages.success(request, f"{row.reference}: giving it up.")


class SettleForm(ActionForm):  # type: ignore[misc]
    """What was done by hand."""

    note = forms.CharField(required=False, max_length=300)


@admin.register(Recheck)
class RecheckAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Final transactions that a fork may have taken back, and what became of them."""

    list_display = (
        "transaction",
        "network",
        "colored_state",
        "reopened_at",
        "closed_at",
        "closed_by",
        "last_error",
    )
    list_filter = ("state", "network")
    list_select_related = ("network", "transaction")
    search_fields = ("transaction__reference",)
    ordering = ("-id",)
    exclude = ("lease_token",)
    actions = ("settle",)
    action_form = SettleForm

    @display(description="state", label={"open": "warning", "decide": "danger", "closed": "success"})  # type: ignore[untyped-decorator]
    def colored_state(self, row: Recheck) -> str:
        return str(row.state)

    def has_settle_permission(self, request: HttpRequest) -> bool:
        """Rows are read-only for everybody; who may change them may say what was done by hand."""
        return bool(request.user.has_perm("chain.change_recheck"))

    @admin.action(description="The books were put right by hand (say how)", permissions=["settle"])
    def settle(self, request: HttpRequest, rows: QuerySet[Recheck]) -> None:
        for row in rows:
            try:
                services.recheck_settle(
                    recheck_id=row.pk, actor=str(request.user), note=request.POST.get("note", "")
                )
            except DomainError as error:
                messages.error(request, f"{row}: {error.detail}")
            else:
                messages.success(request, f"{row}: settled.")
