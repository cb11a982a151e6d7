"""The books, to look at. Nothing is added, changed or deleted here; a wrong journal is reversed."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin, TabularInline

from apps.accounts.models import User
from apps.core.api.amounts import amount_format
from apps.core.errors import DomainError
from apps.ledger.models import Account, Entry, Journal
from apps.ledger.services import journal_reverse

_FULL_ID_LENGTH = 36


class ReadOnly:
    """Looking needs the view permission; the rest is nobody's, superusers included."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        del request
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        del request, obj
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        del request, obj
        return False


def _id(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) == _FULL_ID_LENGTH else None
    except ValueError:
        return None


@admin.register(Account)
class AccountAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ("kind", "asset", "owner", "ref", "balance", "balance_units")
    list_select_related = ("asset",)
    list_filter = ("kind", "asset")
    search_fields = ("ref",)
    search_help_text = (
        "A person's email, an owner's or account's id, or the beginning of a ref (a wallet's address)."
    )
    ordering = ("-id",)
    fields = ("id", "kind", "asset", "owner", "owner_id", "ref", "balance", "balance_units", "created_at")
    list_per_page = 50
    show_full_result_count = False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Account], search_term: str
    ) -> tuple[QuerySet[Account], bool]:
        """Each kind of term has its index; nothing here reads the whole table for a substring."""
        del request
        term = search_term.strip()
        if not term:
            return queryset, False
        found = Q(owner_id__in=User.objects.filter(email=term.lower()).values("id")) | Q(
            ref__startswith=term.lower()
        )
        if (searched := _id(term)) is not None:
            found |= Q(owner_id=searched) | Q(id=searched)
        return queryset.filter(found), False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        email = User.objects.filter(id=OuterRef("owner_id")).values("email")[:1]
        accounts: QuerySet[Account] = super().get_queryset(request)
        return accounts.annotate(owner_email=Subquery(email))

    @admin.display(description="Owner")
    def owner(self, account: Any) -> str:
        return account.owner_email or (str(account.owner_id) if account.owner_id else "the platform")

    @admin.display(description="Balance")
    def balance(self, account: Account) -> str:
        return f"{amount_format(account.balance_units, decimals=account.asset.decimals)} {account.asset.code}"


class EntryInline(ReadOnly, TabularInline):  # type: ignore[misc]
    model = Entry
    fields = readonly_fields = ("account", "amount", "amount_units", "balance_after_units")
    ordering = ("id",)
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entry]:
        entries: QuerySet[Entry] = super().get_queryset(request)
        return entries.select_related("account", "asset")

    @admin.display(description="Amount")
    def amount(self, entry: Entry) -> str:
        return f"{amount_format(entry.amount_units, decimals=entry.asset.decimals)} {entry.asset.code}"


@admin.register(Journal)
class JournalAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ("posted_at", "kind", "reference", "reverses", "id")
    list_select_related = ("reverses",)
    search_fields = ("reference",)
    search_help_text = (
        "The beginning of a reference, a journal's id, or the email of a person whom it touches."
    )
    ordering = ("-id",)
    fields = ("id", "posted_at", "kind", "reference", "reverses", "metadata")
    inlines = (EntryInline,)
    list_per_page = 50
    show_full_result_count = False
    actions = ("reverse",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Journal], search_term: str
    ) -> tuple[QuerySet[Journal], bool]:
        del request
        term = search_term.strip()
        if not term:
            return queryset, False
        if "@" in term:
            owners = User.objects.filter(email=term.lower()).values("id")
            accounts = Account.objects.filter(owner_id__in=owners).values("id")
            return queryset.filter(
                id__in=Entry.objects.filter(account_id__in=accounts).values("journal_id")
            ), False
        if (searched := _id(term)) is not None:
            return queryset.filter(Q(id=searched) | Q(reference=term)), False
        return queryset.filter(reference__startswith=term), False

    def has_reverse_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ledger.change_journal")

    @admin.action(description="Reverse the selected journals", permissions=["reverse"])
    def reverse(self, request: HttpRequest, queryset: QuerySet[Journal]) -> HttpResponse | None:
        """Asks for a reason first; then reverses each journal by itself and says which could not be."""
        reason = request.POST.get("reason", "").strip()
        if not reason:
            context = {
                **self.admin_site.each_context(request),
                "title": "Reverse these journals?",
                "opts": self.model._meta,
                "journals": queryset,
                "checkbox": ACTION_CHECKBOX_NAME,
            }
            return TemplateResponse(request, "admin/ledger/reverse_confirmation.html", context)
        for journal in queryset:
            try:
                with transaction.atomic():
                    said = f"{reason} (by {request.user.get_username()})"
                    reversal_id = journal_reverse(journal_id=journal.id, reason=said)
                    self.log_change(request, journal, f"Reversed by {reversal_id}: {reason}"[:300])
            except DomainError as error:
                self.message_user(request, f"{journal.reference}: {error.detail}", messages.ERROR)
            else:
                self.message_user(request, f"{journal.reference}: reversed.", messages.SUCCESS)
        return None
