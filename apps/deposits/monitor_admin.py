"""How far the monitor is, and reading blocks again, for operators."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from apps.chain.models import Network
from apps.core.errors import DomainError
from apps.deposits.models import Rescan, Scan
from apps.deposits.rescans import rescan_request


class _Kept(ModelAdmin):  # type: ignore[misc]
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        del request, obj
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        del request, obj
        return False


@admin.register(Scan)
class ScanAdmin(_Kept):
    list_display = (
        "network", "next_block", "next_final_block", "read_by", "read_again_by", "scanned_at", "stalled_at",
        "last_error",
    )  # fmt: skip
    list_select_related = ("network", "read_by", "read_again_by")
    exclude = ("lease_token",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        del request
        return False


class RescanForm(forms.ModelForm):  # type: ignore[type-arg]
    """A request; the service says whether the range can be read."""

    to_block = forms.IntegerField(required=False, min_value=0, help_text="Empty: up to the head.")

    class Meta:
        model = Rescan
        fields = ("network", "from_block", "to_block", "reason")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        network = cleaned.get("network")
        if isinstance(network, Network) and cleaned.get("from_block") is not None and not self.errors:
            try:
                self.instance = rescan_request(
                    network_id=network.pk,
                    from_block=cleaned["from_block"],
                    to_block=cleaned.get("to_block"),
                    reason=cleaned.get("reason") or "",
                )
            except DomainError as error:
                self.add_error(error.pointer.removeprefix("/") or None, error.detail)
        return cleaned

    def _post_clean(self) -> None:
        """The row is there already, whole."""


@admin.register(Rescan)
class RescanAdmin(_Kept):
    """Adding one asks for it; it is safe at any time and any number of times."""

    form = RescanForm
    list_display = (
        "network", "state", "from_block", "to_block", "progress", "found", "reason", "created_at", "done_at",
        "last_error",
    )  # fmt: skip
    list_filter = ("state", "network")
    list_select_related = ("network",)
    ordering = ("-id",)

    @display(description="Read")  # type: ignore[untyped-decorator]
    def progress(self, row: Rescan) -> str:
        return f"{row.next_block - row.from_block} of {row.to_block - row.from_block + 1} blocks"

    def get_readonly_fields(self, request: HttpRequest, obj: Rescan | None = None) -> tuple[str, ...]:
        del request
        return () if obj is None else ("state", "progress", "found", "attempts", "done_at", "last_error")

    def save_model(self, request: HttpRequest, obj: Rescan, form: RescanForm, change: bool) -> None:
        """Written by the service when the form was found good."""
        del obj, form, change
        messages.info(request, "Its blocks are read again as soon as they are final.")
