"""Balances now and then, statements, and what production checks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from apps.core import clock, invariants
from apps.core.api.pagination import PageQuery
from apps.core.ids import uuid7
from apps.ledger.domain import AccountKey, AccountKind
from apps.ledger.selectors import account_find, balance_as_of, balances_for_owner, statement_page
from apps.ledger.services import accounts_open, journals_post
from tests.ledger.conftest import Book

pytestmark = pytest.mark.django_db


def test_balances_are_read_per_asset_in_one_query(
    book: Book, make: Callable[..., Book], django_assert_num_queries: Callable[[int], Any]
) -> None:
    other = make("AAA")
    other.person(5)
    key = AccountKey(AccountKind.AVAILABLE, other.asset.id, book.people[0])
    account_id = accounts_open(keys=[key])[key]
    other.post((other.available[0], -5), (account_id, 5))
    book.post((book.available[0], -400), (book.held[0], 400))

    with django_assert_num_queries(1):
        found = balances_for_owner(owner_id=book.people[0])

    assert [(b.asset.code, b.available_units, b.held_units, b.total_units) for b in found] == [
        ("AAA", 5, 0, 5),
        (book.asset.code, 600, 400, 1_000),
    ]
    assert balances_for_owner(owner_id=uuid7()) == []


def test_balances_as_of_an_instant_are_those_after_its_last_posting(
    book: Book,
    time_travel: Callable[..., int],
    django_assert_num_queries: Callable[[int], Any],
) -> None:
    deposited = clock.now()
    time_travel(seconds=86_400)
    book.post((book.available[0], -400), (book.held[0], 400))
    held = clock.now()
    time_travel(seconds=86_400 * 40)
    book.post((book.held[0], -400), (book.available[1], 400))

    def at(moment: datetime) -> tuple[int, int]:
        with django_assert_num_queries(1):
            (found,) = balances_for_owner(owner_id=book.people[0], at=moment)
        return found.available_units, found.held_units

    assert at(deposited) == (1_000, 0)
    assert at(held - timedelta(hours=1)) == (1_000, 0)
    assert at(held) == (600, 400)
    assert at(clock.now()) == (600, 0)
    assert at(deposited - timedelta(days=1)) == (0, 0)
    assert at(datetime(1, 1, 1, tzinfo=UTC)) == (0, 0)
    assert at(datetime(9999, 1, 1, tzinfo=UTC)) == (600, 0)


def test_a_balance_as_of_is_asked_of_an_account_or_of_an_owner_s_asset(book: Book) -> None:
    book.post((book.available[0], -400), (book.held[0], 400))
    now = clock.now() + timedelta(seconds=1)

    assert balance_as_of(at=now, account_id=book.available[0]) == 600
    assert balance_as_of(at=now, owner_id=book.people[0], asset_id=book.asset.id) == 1_000
    assert balance_as_of(at=now, account_id=book.custody) == -1_000
    assert balance_as_of(at=now, account_id=uuid7()) == 0
    for wrong in (
        {},
        {"owner_id": uuid7()},
        {"asset_id": uuid7()},
        {"account_id": uuid7(), "owner_id": uuid7()},
    ):
        with pytest.raises(TypeError):
            balance_as_of(at=now, **wrong)


def test_a_statement_is_paged_newest_first_in_one_query_a_page(
    book: Book, django_assert_num_queries: Callable[[int], Any]
) -> None:
    for n in range(1, 5):
        book.post((book.available[0], -n), (book.available[1], n), reference=f"gift:{n}")

    with django_assert_num_queries(1):
        first = statement_page(account_id=book.available[0], query=PageQuery(limit=3))
    second = statement_page(account_id=book.available[0], query=PageQuery(limit=3, cursor=first.next))

    assert [(line.reference, line.amount_units, line.balance_after_units) for line in first.rows] == [
        ("gift:4", -4, 990), ("gift:3", -3, 994), ("gift:2", -2, 997),
    ]  # fmt: skip
    assert [line.balance_after_units for line in second.rows] == [999, 1_000]
    assert second.next is None
    assert {line.kind for line in first.rows + second.rows} == {"test"}


def test_a_page_reads_the_index_and_not_the_table(book: Book) -> None:
    journals_post(
        drafts=[book.draft((book.available[0], -1), (book.available[1], 1)) for _ in range(400)]
        + [book.draft((book.available[1], -1), (book.available[0], 1)) for _ in range(400)]
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE ledger_entry")
        cursor.execute(
            "EXPLAIN SELECT id FROM ledger_entry WHERE account_id = %s AND id < %s ORDER BY id DESC LIMIT 20",
            [book.available[0], uuid7()],
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "account_id_id_idx" in plan
    assert "->  Sort" not in plan


def test_an_account_is_found_by_its_key(book: Book) -> None:
    key = AccountKey(AccountKind.HELD, book.asset.id, book.people[0])

    assert account_find(key=key) == book.held[0]
    assert account_find(key=AccountKey(AccountKind.HELD, book.asset.id, uuid7())) is None


def verdicts() -> dict[str, invariants.Verdict]:
    return {v.name: v for v in invariants.run_all() if v.name.startswith("ledger.")}


def test_invariants_hold_and_say_what_they_looked_at(book: Book) -> None:
    book.post((book.available[0], -400), (book.held[0], 400))

    found = verdicts()

    assert all(verdict.holds for verdict in found.values())
    assert found["ledger.journals_sum_to_zero"].facts == {
        "since": "the first entry", "journal_assets": 2, "entries": 4,
    }  # fmt: skip
    assert found["ledger.balances_equal_entries"].facts == {"accounts": 5}
    assert found["ledger.entries_continue"].facts == {"since": "the first entry", "entries": 4}
    assert found["ledger.default_partition_empty"].facts == {"entries": 0}


def test_large_books_are_looked_at_for_the_last_weeks_only(
    book: Book, monkeypatch: pytest.MonkeyPatch, time_travel: Callable[..., int]
) -> None:
    monkeypatch.setattr("apps.ledger.invariants.WHOLE_BOOKS_MAX_ENTRIES", -1)
    time_travel(seconds=86_400 * 40)
    book.post((book.available[0], -400), (book.held[0], 400))

    found = verdicts()

    assert all(verdict.holds for verdict in found.values())
    assert found["ledger.journals_sum_to_zero"].facts["entries"] == 2
    assert found["ledger.entries_continue"].facts["entries"] == 2
    since = datetime.fromisoformat(found["ledger.entries_continue"].facts["since"])
    assert timedelta(days=34) < clock.now() - since < timedelta(days=36)


@pytest.mark.parametrize(
    ("damage", "noticed_by"),
    [
        (
            "UPDATE ledger_entry SET amount_units = amount_units + 1 WHERE amount_units > 0",
            {"ledger.journals_sum_to_zero", "ledger.entries_continue"},
        ),
        (
            "UPDATE ledger_account SET balance_units = balance_units + 1 WHERE kind = 'held'",
            {"ledger.balances_equal_entries"},
        ),
        (
            "DELETE FROM ledger_entry WHERE amount_units = -1000",
            {"ledger.journals_sum_to_zero", "ledger.balances_equal_entries"},
        ),
        (
            "UPDATE ledger_entry SET balance_after_units = 7 WHERE balance_after_units = 400",
            {"ledger.balances_equal_entries", "ledger.entries_continue"},
        ),
        (
            (
                "INSERT INTO ledger_entry "
                "SELECT 'ffffffff-0000-7000-8000-000000000000', journal_id, account_id, asset_id,"
                " amount_units, balance_after_units FROM ledger_entry LIMIT 1"
            ),
            {
                "ledger.journals_sum_to_zero",
                "ledger.balances_equal_entries",
                "ledger.entries_continue",
                "ledger.default_partition_empty",
            },
        ),
    ],
)
def test_damage_behind_the_triggers_is_noticed(book: Book, damage: str, noticed_by: set[str]) -> None:
    """As somebody could do who may switch triggers off, or a disk."""
    book.post((book.available[0], -400), (book.held[0], 400))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(damage)
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")

    assert {name for name, verdict in verdicts().items() if not verdict.holds} == noticed_by
