"""What the ledger knows about a person, for their export: balances, and every entry of every account of theirs."""

from collections.abc import Iterator
from uuid import UUID

from apps.accounts.exports import CHUNK, Row, section_register
from apps.core.api.amounts import amount_format
from apps.core.ids import uuid7_time
from apps.ledger.models import Account, Entry

_ENTRY = ("id", "journal_id", "journal__kind", "journal__reference", "amount_units", "balance_after_units")


def _accounts(user_id: UUID) -> list[Account]:
    return list(
        Account.objects.filter(owner_id=user_id).select_related("asset").order_by("asset__code", "kind")
    )


def _balances(user_id: UUID) -> Iterator[Row]:
    for account in _accounts(user_id):
        yield {
            "asset": account.asset.code,
            "account": account.kind,
            "balance": amount_format(account.balance_units, decimals=account.asset.decimals),
        }


def _statement(user_id: UUID) -> Iterator[Row]:
    """Account by account, each along its index (account, id)."""
    for account in _accounts(user_id):
        places = account.asset.decimals
        entries = Entry.objects.filter(account_id=account.pk).order_by("id").values_list(*_ENTRY)
        for entry_id, journal_id, kind, reference, amount, after in entries.iterator(chunk_size=CHUNK):
            yield {
                "id": entry_id,
                "posted_at": uuid7_time(entry_id),
                "asset": account.asset.code,
                "account": account.kind,
                "journal_id": journal_id,
                "kind": kind,
                "reference": reference,
                "amount": amount_format(int(amount), decimals=places),
                "balance_after": amount_format(int(after), decimals=places),
            }


section_register("balances", _balances)
section_register("statement", _statement)
