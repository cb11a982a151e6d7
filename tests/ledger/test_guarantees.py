"""Attacks with SQL: whoever writes, the database keeps the books right."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.utils import DatabaseError

from apps.core import clock, partitions
from apps.core.ids import uuid7, uuid7_many, uuid7_time
from apps.ledger.models import Account, Entry, Journal
from apps.ledger.services import journals_post
from tests.ledger.conftest import Book, balance, books, raw_entries, raw_journal

pytestmark = pytest.mark.django_db


def partition_now() -> str:
    return f"ledger_entry_{clock.now():%Y_%m}"


@pytest.fixture(params=["whole", "partition"])
def table(request: pytest.FixtureRequest) -> str:
    """Named when the test runs: when the tests were collected it may have been another month."""
    return partition_now() if request.param == "partition" else "ledger_entry"


def constraint_of(error: DatabaseError) -> str:
    cause: Any = error.__cause__
    return str(cause.diag.constraint_name)


def attempt(write: Callable[[], object]) -> None:
    """Do `write` and all checks that a commit would do."""
    with transaction.atomic():
        write()
        execute("SET CONSTRAINTS ALL IMMEDIATE")


def execute(*statements: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def refused(write: Callable[[], object], *, by: str) -> None:
    """`write` fails by the named constraint and leaves everything as it was."""
    before = books()
    with pytest.raises(IntegrityError) as caught:
        attempt(write)
    assert constraint_of(caught.value) == by
    assert books() == before


def test_balanced_entries_written_by_sql_move_their_accounts(book: Book, table: str) -> None:
    raw_entries(raw_journal(), [(book.available[0], -100), (book.available[1], 100)], table=table)

    assert [balance(account_id) for account_id in book.available] == [900, 100]


@pytest.mark.parametrize("credited", [99, 101])
def test_entries_that_do_not_sum_to_zero_are_refused(book: Book, table: str, credited: int) -> None:
    refused(
        lambda: raw_entries(
            raw_journal(), [(book.available[0], -100), (book.available[1], credited)], table=table
        ),
        by="ledger_entry_zero_sum",
    )


def test_entries_that_sum_to_zero_only_across_journals_are_refused(book: Book) -> None:
    def write() -> None:
        first, second = raw_journal(), raw_journal()
        now = uuid7_many(2)
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO ledger_entry VALUES (%s, %s, %s, %s, -100, 900), (%s, %s, %s, %s, 100, 100)",
                [
                    now[0],
                    first,
                    book.available[0],
                    book.asset.id,
                    now[1],
                    second,
                    book.available[1],
                    book.asset.id,
                ],
            )

    refused(write, by="ledger_entry_zero_sum")


def test_entries_that_sum_to_zero_only_across_assets_are_refused(
    book: Book, make: Callable[..., Book]
) -> None:
    other = make()
    other.person(500)

    refused(
        lambda: raw_entries(raw_journal(), [(book.available[1], 100), (other.available[0], -100)]),
        by="ledger_entry_zero_sum",
    )


def test_an_entry_in_another_asset_than_its_account_is_refused(book: Book, make: Callable[..., Book]) -> None:
    other = make()

    refused(
        lambda: raw_entries(
            raw_journal(), [(book.available[0], -1), (book.available[1], 1)], asset_id=other.asset.id
        ),
        by="ledger_entry_asset_matches",
    )


def test_an_entry_on_an_account_that_does_not_exist_is_refused(book: Book) -> None:
    refused(
        lambda: raw_entries(raw_journal(), [(book.available[0], -1), (uuid7(), 1)]),
        by="ledger_entry_account_exists",
    )


def test_a_zero_entry_is_refused(book: Book) -> None:
    refused(lambda: raw_entries(raw_journal(), [(book.available[0], 0)]), by="ledger_entry_not_zero")


def test_an_overdraft_is_refused(book: Book, table: str) -> None:
    refused(
        lambda: raw_entries(
            raw_journal(), [(book.available[0], -1_001), (book.available[1], 1_001)], table=table
        ),
        by="ledger_account_no_overdraft",
    )


def test_a_debit_normal_account_above_zero_is_refused(book: Book) -> None:
    book.person(500)

    refused(
        lambda: raw_entries(
            raw_journal(), [(book.custody, 1_501), (book.available[0], -1_000), (book.available[2], -501)]
        ),
        by="ledger_account_no_overdraft",
    )


def test_an_account_that_dips_below_zero_between_two_entries_of_a_statement_is_refused(book: Book) -> None:
    """The end would be fine; a statement line below zero would not."""
    moves = [(book.available[1], -5), (book.available[1], 5), (book.available[0], -5), (book.available[0], 5)]

    refused(lambda: raw_entries(raw_journal(), moves), by="ledger_account_no_overdraft")


@pytest.mark.parametrize("wrong", [899, 901, 0])
def test_a_balance_after_that_is_not_the_balance_after_is_refused(book: Book, wrong: int) -> None:
    refused(
        lambda: raw_entries(
            raw_journal(),
            [(book.available[0], -100), (book.available[1], 100)],
            after={book.available[0]: wrong, book.available[1]: 100},
        ),
        by="ledger_entry_continues",
    )


def test_an_entry_older_than_the_account_s_newest_is_refused(book: Book) -> None:
    newest = Account.objects.get(id=book.available[0]).last_entry_id
    earlier = uuid7_many(2, uuid7_time(newest) - timedelta(milliseconds=1))

    refused(
        lambda: raw_entries(raw_journal(), [(book.available[0], -1), (book.available[1], 1)], ids=earlier),
        by="ledger_entry_continues",
    )


def test_entries_for_a_journal_of_an_earlier_transaction_are_refused(book: Book) -> None:
    journal_id = Journal.objects.values_list("id", flat=True).get()

    refused(
        lambda: raw_entries(journal_id, [(book.available[0], -1), (book.available[1], 1)]),
        by="ledger_entry_journal_open",
    )


def test_a_second_statement_of_entries_for_one_journal_is_refused(book: Book) -> None:
    def write() -> None:
        journal_id = raw_journal()
        raw_entries(journal_id, [(book.available[0], -1), (book.available[1], 1)])
        raw_entries(journal_id, [(book.available[0], -1), (book.available[1], 1)])

    refused(write, by="ledger_entry_journal_open")


def test_entries_without_a_journal_are_refused(book: Book) -> None:
    refused(
        lambda: raw_entries(uuid7(), [(book.available[0], -1), (book.available[1], 1)]),
        by="ledger_entry_journal_open",
    )


def test_a_journal_without_entries_cannot_be_committed(book: Book) -> None:
    def write() -> None:
        forsaken, kept = raw_journal(), raw_journal()
        raw_entries(kept, [(book.available[0], -1), (book.available[1], 1)])
        assert Journal.objects.filter(id=forsaken).exists()

    refused(write, by="ledger_journal_has_entries")


def test_journals_whose_entries_come_in_one_later_statement_stay(book: Book) -> None:
    first, second = raw_journal(), raw_journal()
    raw_entries(second, [(book.available[0], -1), (book.available[1], 1)])
    raw_entries(first, [(book.available[0], -2), (book.available[1], 2)])

    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SELECT count(*) FROM ledger_opening")
        assert cursor.fetchone()[0] == 0
    assert balance(book.available[1]) == 3


def test_a_second_journal_of_one_reference_is_refused(book: Book) -> None:
    book.post((book.available[0], -1), (book.available[1], 1), reference="taken")

    refused(lambda: raw_journal(reference="taken"), by="ledger_journal_reference")


def test_a_reversal_that_does_not_undo_its_original_is_refused(book: Book) -> None:
    original = Journal.objects.values_list("id", flat=True).get()
    wrong = [
        [(book.available[0], -999), (book.custody, 999)],
        [(book.available[0], -1), (book.available[1], 1)],
    ]

    for moves in wrong:
        refused(
            lambda moves=moves: raw_entries(raw_journal(reverses=original), moves),  # type: ignore[misc]
            by="ledger_journal_reverses_exactly",
        )


ATTACKS = [
    "UPDATE ledger_account SET balance_units = balance_units + 1",
    "UPDATE ledger_account SET last_entry_id = '00000000-0000-0000-0000-000000000000'",
    "UPDATE ledger_account SET kind = 'held' WHERE kind = 'available'",
    "DELETE FROM ledger_account WHERE balance_units = 0",
    "TRUNCATE ledger_account CASCADE",
    "UPDATE ledger_journal SET metadata = '{\"forged\": true}'",
    "UPDATE ledger_journal SET reference = 'forged' || reference",
    "DELETE FROM ledger_journal",
    "TRUNCATE ledger_journal CASCADE",
    "UPDATE ledger_entry SET amount_units = 2 * amount_units",
    "UPDATE ledger_entry SET balance_after_units = 0",
    "DELETE FROM ledger_entry",
    "TRUNCATE ledger_entry",
    "UPDATE {partition} SET amount_units = 2 * amount_units",
    "DELETE FROM {partition}",
    "TRUNCATE {partition}",
    "TRUNCATE ledger_entry_default",
    "INSERT INTO ledger_opening (journal_ids, reversing) SELECT array_agg(id), false FROM ledger_journal",
    "TRUNCATE ledger_opening",
    (
        "INSERT INTO ledger_account (id, kind, asset_id, owner_id, balance_units, created_at)"
        " SELECT gen_random_uuid(), kind, asset_id, gen_random_uuid(), 10, now() FROM ledger_account"
        " WHERE kind = 'available'"
    ),
    (
        "INSERT INTO ledger_account SELECT * FROM ledger_account WHERE kind = 'available' AND balance_units = 0"
        " ON CONFLICT (id) DO UPDATE SET balance_units = 10"
    ),
    (
        "MERGE INTO ledger_account AS a USING (SELECT 1) AS one ON a.kind = 'available'"
        " WHEN MATCHED THEN UPDATE SET balance_units = 10"
    ),
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_change_of_what_was_written_is_refused(book: Book, attack: str) -> None:
    before = books()

    with pytest.raises(DatabaseError, match=r"ledger: \w+ of ledger_\w+ refused"):
        # Constraints first, else checks that are still pending would refuse a TRUNCATE before the trigger does.
        execute("SET CONSTRAINTS ALL IMMEDIATE", attack.replace("{partition}", partition_now()))

    assert books() == before


def test_an_opened_journal_cannot_be_forgotten(book: Book) -> None:
    def write() -> None:
        raw_journal()
        execute("DELETE FROM ledger_opening")

    with pytest.raises(DatabaseError, match="ledger: DELETE of ledger_opening refused"):
        attempt(write)


def test_an_account_cannot_be_copied_in_with_a_balance(book: Book) -> None:
    def copy_in() -> None:
        columns = "id, kind, asset_id, owner_id, ref, balance_units, last_entry_id, created_at"
        statement = f"COPY ledger_account ({columns}) FROM STDIN"
        with (
            connection.cursor() as cursor,
            connection.wrap_database_errors,
            cursor.copy(statement) as copy,
        ):
            copy.write_row((uuid7(), "available", book.asset.id, uuid7(), "", 5, UUID(int=0), clock.now()))

    before = books()

    with pytest.raises(DatabaseError, match="ledger: INSERT of ledger_account refused"):
        attempt(copy_in)

    assert books() == before


def test_entries_copied_in_are_checked_like_any_other(book: Book) -> None:
    def write() -> None:
        journal_id = raw_journal()
        columns = "id, journal_id, account_id, asset_id, amount_units, balance_after_units"
        with (
            connection.cursor() as cursor,
            connection.wrap_database_errors,
            cursor.copy(f"COPY {partition_now()} ({columns}) FROM STDIN") as copy,
        ):
            copy.write_row((uuid7(), journal_id, book.available[1], book.asset.id, 7, 7))

    refused(write, by="ledger_entry_zero_sum")


@pytest.mark.parametrize(
    ("kind", "owned", "allowed"),
    [("available", True, True), ("available", False, False), ("fees", True, False), ("loot", True, False)],
)
def test_only_known_kinds_with_the_right_owner_can_be_opened(
    book: Book, kind: str, owned: bool, allowed: bool
) -> None:
    def write() -> None:
        Account.objects.create(kind=kind, asset=book.asset, owner_id=uuid7() if owned else None)

    if allowed:
        write()
        return
    with pytest.raises(IntegrityError):
        attempt(write)


def test_partitions_made_later_carry_the_same_guards(book: Book) -> None:
    made = partitions.ensure(at=clock.now() + timedelta(days=400), tables=["ledger_entry"])
    assert len(made) == 5
    later = uuid7_many(2, clock.now() + timedelta(days=400))

    refused(
        lambda: raw_entries(
            raw_journal(), [(book.available[0], -5), (book.available[1], 6)], ids=later, table=made[1]
        ),
        by="ledger_entry_zero_sum",
    )
    raw_entries(raw_journal(), [(book.available[0], -5), (book.available[1], 5)], ids=later, table=made[1])
    assert balance(book.available[1]) == 5
    for attack in (f"TRUNCATE {made[1]}", f"DELETE FROM {made[1]}"):
        with pytest.raises(DatabaseError, match=r"ledger: \w+ of ledger_entry_\w+ refused"):
            execute("SET CONSTRAINTS ALL IMMEDIATE", attack)


def test_posting_goes_on_after_a_month_without_partition(book: Book) -> None:
    """An entry that has no month of its own lands in the default partition, checked like any other."""
    far = uuid7_many(2, clock.now() + timedelta(days=4_000))

    raw_entries(raw_journal(), [(book.available[0], -5), (book.available[1], 5)], ids=far)

    assert partitions.default_rows()["ledger_entry"] == 2
    # The clock is now behind the books: ids go on from the newest entry.
    journals_post(drafts=[book.draft((book.available[0], -5), (book.available[1], 5))])
    assert balance(book.available[1]) == 10
    assert Entry.objects.filter(account_id=book.available[1]).order_by("-id")[0].balance_after_units == 10
