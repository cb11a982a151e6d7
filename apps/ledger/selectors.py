"""Reading the ledger: balances now and as of an instant, and statements. One query each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from apps.core.api.pagination import Cursor, Page, PageQuery, page_cut
from apps.core.ids import uuid7_floor, uuid7_time
from apps.ledger.domain import AccountKey
from apps.ledger.models import NIL, Account

_BALANCES = """
SELECT asset.id, asset.code, asset.name, asset.decimals,
    sum({balance}) FILTER (WHERE account.kind = 'available'),
    sum({balance}) FILTER (WHERE account.kind = 'held')
FROM ledger_account AS account JOIN core_asset AS asset ON asset.id = account.asset_id {then}
WHERE account.owner_id = %(owner_id)s
GROUP BY asset.id ORDER BY asset.code
"""

# The newest entry before the bound says what the balance was: one step into the index (account, id).
_THEN = """
LEFT JOIN LATERAL (
    SELECT balance_after_units FROM ledger_entry AS entry
    WHERE entry.account_id = account.id AND entry.id < %(before)s ORDER BY entry.id DESC LIMIT 1
) AS newest ON true
"""

_AS_OF = """
SELECT coalesce(sum(newest.balance_after_units), 0) FROM ledger_account AS account
{then} WHERE {where}
"""

_STATEMENT = """
SELECT entry.id, entry.journal_id, journal.kind, journal.reference, journal.metadata,
    entry.amount_units, entry.balance_after_units
FROM (
    SELECT id, journal_id, amount_units, balance_after_units FROM ledger_entry
    WHERE account_id = %(account_id)s AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s
) AS entry JOIN ledger_journal AS journal ON journal.id = entry.journal_id
ORDER BY entry.id DESC
"""

_LAST_ID = UUID(int=(1 << 128) - 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HeldAsset(NamedTuple):
    """An asset without the model's cost, which was a third of the answer with fifty of them."""

    id: UUID
    code: str
    name: str
    decimals: int


@dataclass(frozen=True, slots=True)
class AssetBalance:
    """What a person has of one asset, in base units."""

    asset: HeldAsset
    available_units: int
    held_units: int

    @property
    def total_units(self) -> int:
        return self.available_units + self.held_units


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One entry of an account with the journal that it belongs to; amounts are signed base units."""

    id: UUID
    posted_at: datetime
    journal_id: UUID
    kind: str
    reference: str
    metadata: Mapping[str, Any]
    amount_units: int
    balance_after_units: int


def account_find(*, key: AccountKey) -> UUID | None:
    """The account of `key`, when it was ever opened."""
    return (
        Account.objects.filter(owner_id=key.owner_id, asset_id=key.asset_id, kind=key.kind, ref=key.ref)
        .values_list("id", flat=True)
        .first()
    )


def balances_for_owner(*, owner_id: UUID, at: datetime | None = None) -> list[AssetBalance]:
    """Every asset that the person ever had an account of, by code; now, or as of the millisecond of `at`."""
    query = _BALANCES.format(
        balance="account.balance_units" if at is None else "newest.balance_after_units",
        then="" if at is None else _THEN,
    )
    with connection.cursor() as cursor:
        cursor.execute(query, {"owner_id": owner_id, "before": _after(at) if at else None})
        return [
            AssetBalance(HeldAsset(*asset), int(available or 0), int(held or 0))
            for *asset, available, held in cursor.fetchall()
        ]


def balance_as_of(
    *,
    at: datetime,
    account_id: UUID | None = None,
    owner_id: UUID | None = None,
    asset_id: UUID | None = None,
) -> int:
    """Units right after the last posting at or before `at` (to the millisecond); 0 before the first.

    Of one account, or of a person's available and held accounts of one asset together. Stable once every
    transaction that was open at `at` has ended. Raises `TypeError` for any other combination.
    """
    if (account_id is None) == (owner_id is None) or (owner_id is None) != (asset_id is None):
        raise TypeError("balance_as_of wants account_id, or owner_id and asset_id")
    if account_id is not None:
        where = "account.id = %(account_id)s"
    else:
        where = "account.owner_id = %(owner_id)s AND account.asset_id = %(asset_id)s"
    with connection.cursor() as cursor:
        cursor.execute(
            _AS_OF.format(then=_THEN, where=where),
            {"account_id": account_id, "owner_id": owner_id, "asset_id": asset_id, "before": _after(at)},
        )
        return int(cursor.fetchone()[0])


def statement_page(*, account_id: UUID, query: PageQuery) -> Page[StatementLine]:
    """Entries of one account, newest first.

    Exact under concurrent posting: an account's later entries have greater ids than its earlier ones (the
    database refuses anything else), so that nothing ever appears behind a cursor.
    """
    before = query.cursor.id if query.cursor else _LAST_ID
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENT, {"account_id": account_id, "before": before, "limit": query.limit + 1})
        lines = [
            StatementLine(
                id=entry_id,
                posted_at=uuid7_time(entry_id),
                journal_id=journal_id,
                kind=kind,
                reference=reference,
                metadata=json.loads(metadata),
                amount_units=int(amount),
                balance_after_units=int(balance),
            )
            for entry_id, journal_id, kind, reference, metadata, amount, balance in cursor.fetchall()
        ]
    return page_cut(lines, limit=query.limit, place=lambda line: Cursor(line.posted_at, line.id))


def _after(at: datetime) -> UUID:
    """The smallest id that is later than the millisecond of `at`."""
    return uuid7_floor(at + timedelta(milliseconds=1)) if at >= _EPOCH else NIL
