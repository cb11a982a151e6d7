"""A small book: two people, a custody account, and helpers that write as an attacker with SQL would."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from psycopg import sql

from apps.core import clock
from apps.core.ids import uuid7, uuid7_many
from apps.core.models import Asset
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.models import Account, Entry, Journal
from apps.ledger.services import accounts_open, journals_post

_serial = count()


@dataclass
class Book:
    """One asset's accounts, and shortcuts to post on them."""

    asset: Asset
    custody: UUID
    people: list[UUID] = field(default_factory=list)
    available: list[UUID] = field(default_factory=list)
    held: list[UUID] = field(default_factory=list)

    def person(self, units: int = 0) -> int:
        """Open a person's two accounts with `units` deposited; returns their index."""
        owner = uuid7()
        keys = [AccountKey(kind, self.asset.id, owner) for kind in (AccountKind.AVAILABLE, AccountKind.HELD)]
        found = accounts_open(keys=keys)
        self.people.append(owner)
        self.available.append(found[keys[0]])
        self.held.append(found[keys[1]])
        if units:
            self.post((self.available[-1], units), (self.custody, -units))
        return len(self.people) - 1

    def draft(self, *postings: tuple[UUID, int], reference: str = "", kind: str = "test") -> JournalDraft:
        moves = [Posting(account_id, units) for account_id, units in postings]
        return JournalDraft(kind, reference or f"test:{next(_serial)}", moves)

    def post(self, *postings: tuple[UUID, int], reference: str = "") -> None:
        journals_post(drafts=[self.draft(*postings, reference=reference)])


def balance(account_id: UUID) -> int:
    units: int = Account.objects.get(id=account_id).balance_units
    return units


def books() -> dict[str, Any]:
    """All that a refused write must leave as it was."""
    return {
        "accounts": list(Account.objects.order_by("id").values()),
        "journals": list(Journal.objects.order_by("id").values()),
        "entries": list(Entry.objects.order_by("id").values()),
    }


def make_book(code: str = "") -> Book:
    code = code or f"T{next(_serial)}"
    asset = Asset.objects.create(code=code, name=code, decimals=6)
    key = AccountKey(AccountKind.CUSTODY, asset.id, ref="0x" + "11" * 20)
    return Book(asset, accounts_open(keys=[key])[key])


@pytest.fixture
def make() -> Callable[..., Book]:
    return make_book


@pytest.fixture
def book(db: None) -> Book:
    """Person 0 with 1,000 units, person 1 with none."""
    made = make_book()
    made.person(1_000)
    made.person()
    return made


def raw_journal(*, reference: str = "", reverses: UUID | None = None) -> UUID:
    """INSERT a journal by SQL; it opens in the present transaction."""
    journal_id = uuid7()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ledger_journal (id, kind, reference, fingerprint, reverses_id, metadata, posted_at)"
            " VALUES (%s, 'raw', %s, '', %s, '{}', %s)",
            [journal_id, reference or f"raw:{journal_id}", reverses, clock.now()],
        )
    return journal_id


def raw_entries(
    journal_id: UUID,
    rows: Sequence[tuple[UUID, int]],
    *,
    table: str = "ledger_entry",
    asset_id: UUID | None = None,
    after: Mapping[UUID, int] | None = None,
    ids: Sequence[UUID] | None = None,
) -> None:
    """INSERT a journal's entries by SQL in one statement; balances are continued rightly unless `after` says."""
    accounts = Account.objects.in_bulk([account_id for account_id, _ in rows])
    running = {account_id: account.balance_units for account_id, account in accounts.items()}
    values = []
    for entry_id, (account_id, units) in zip(ids or uuid7_many(len(rows)), rows, strict=True):
        running[account_id] = running.get(account_id, 0) + units
        balance_after = running[account_id] if after is None else after[account_id]
        account = accounts.get(account_id)
        asset = asset_id or (account.asset_id if account else next(iter(accounts.values())).asset_id)
        values.append((entry_id, journal_id, account_id, asset, units, balance_after))
    statement = sql.SQL(
        "INSERT INTO {} (id, journal_id, account_id, asset_id, amount_units, balance_after_units) VALUES {}"
    ).format(sql.Identifier(table), sql.SQL(", ").join([sql.SQL("(%s, %s, %s, %s, %s, %s)")] * len(values)))
    with connection.cursor() as cursor:
        cursor.execute(statement, [value for row in values for value in row])
