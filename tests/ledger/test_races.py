"""Real connections against each other: each lock first off, and the race is there; then on, and it is gone."""

import itertools
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from apps.core.api.pagination import PageQuery
from apps.core.ids import uuid7
from apps.ledger import posting, services
from apps.ledger.domain import AccountKey, AccountKind, PostResult
from apps.ledger.errors import InsufficientFunds, ReferenceReused
from apps.ledger.models import Account, Journal
from apps.ledger.selectors import StatementLine, statement_page
from apps.ledger.services import accounts_open, balances_lock, journal_reverse, journals_post
from tests.ledger.conftest import Book, balance, make_book

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE_SECONDS = 20


@pytest.fixture
def shared(transactional_db: None) -> Book:
    """Committed: person 0 with 1,000 units, person 1 with 1,000."""
    book = make_book()
    book.person(1_000)
    book.person(1_000)
    return book


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run each in a thread of its own, with a connection of its own; results or exceptions, in order."""
    results: list[Any] = [None] * len(works)
    start = Barrier(len(works))

    def run(index: int, work: Callable[[], Any]) -> None:
        try:
            start.wait(PATIENCE_SECONDS)
            results[index] = work()
        except Exception as error:  # noqa: BLE001 — what went wrong is what the test looks at
            results[index] = error
        finally:
            connection.close()

    threads = [Thread(target=run, args=(index, work)) for index, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_SECONDS)
        assert not thread.is_alive()
    return results


def kinds(results: list[Any]) -> list[str]:
    return sorted(
        type(result).__name__ if isinstance(result, Exception) else str(result) for result in results
    )


def lock_off(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """Read balances without locking, and let no worker write before all have read."""
    monkeypatch.setattr(services, "_LOCK", services._LOCK.replace("FOR NO KEY UPDATE", ""))
    all_have_read = Barrier(workers)
    write = posting.copy_in

    def write_after_all_have_read(*arguments: Any) -> None:
        all_have_read.wait(PATIENCE_SECONDS)
        write(*arguments)

    monkeypatch.setattr(posting, "copy_in", write_after_all_have_read)


def spender(book: Book, units: int, reference: str = "") -> Callable[[], PostResult]:
    draft = book.draft((book.available[0], -units), (book.available[1], units), reference=reference)
    return lambda: journals_post(drafts=[draft])


def test_without_the_lock_two_posts_write_on_the_same_balance(
    shared: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the trigger stands between this and a lost update: the second one's entries continue nothing."""
    lock_off(monkeypatch, 2)

    results = at_once(spender(shared, 10), spender(shared, 10))

    assert kinds(results) == ["IntegrityError", "PostResult(posted=1, repeated=0)"]
    assert balance(shared.available[0]) == 990


def test_with_the_lock_posts_on_one_account_queue_up(shared: Book) -> None:
    results = at_once(*[spender(shared, 10) for _ in range(8)])

    assert results == [PostResult(1, 0)] * 8
    assert balance(shared.available[0]) == 920


def test_with_the_lock_funds_are_spent_once(shared: Book) -> None:
    results = at_once(*[spender(shared, 600) for _ in range(4)])

    assert kinds(results) == ["InsufficientFunds"] * 3 + ["PostResult(posted=1, repeated=0)"]
    refused = [result for result in results if isinstance(result, InsufficientFunds)]
    assert {(error.account_id, error.balance_units) for error in refused} == {(shared.available[0], 400)}
    assert balance(shared.available[0]) == 400


def decide_and_hold(book: Book, read: Callable[[], int], pause: Barrier | None) -> str:
    """What a reservation does: look at the balance, decide, post."""
    with transaction.atomic():
        enough = read() >= 600
        if pause:
            pause.wait(PATIENCE_SECONDS)
        if not enough:
            return "closed"
        journals_post(drafts=[book.draft((book.available[0], -600), (book.held[0], 600))])
        return "held"


def test_a_decision_on_an_unlocked_balance_is_wrong_by_the_time_it_is_acted_on(shared: Book) -> None:
    both_have_read = Barrier(2)

    def work() -> str:
        return decide_and_hold(shared, lambda: balance(shared.available[0]), both_have_read)

    results = at_once(work, work)

    # Both decided to hold; the ledger had to refuse one of them.
    assert kinds(results) == ["InsufficientFunds", "held"]


def test_a_decision_on_a_locked_balance_stays_right(shared: Book) -> None:
    account_id = shared.available[0]

    def work() -> str:
        return decide_and_hold(shared, lambda: balances_lock(account_ids=[account_id])[account_id], None)

    assert kinds(at_once(work, work)) == ["closed", "held"]
    assert balance(shared.held[0]) == 600


def lock_one_by_one(account_ids: list[UUID], pause: Barrier) -> None:
    with transaction.atomic():
        for account_id in account_ids:
            Account.objects.select_for_update().get(id=account_id)
            if account_id == account_ids[0]:
                pause.wait(PATIENCE_SECONDS)


def test_locks_taken_in_opposite_orders_deadlock(shared: Book) -> None:
    both_hold_one = Barrier(2)
    there, back = shared.available, shared.available[::-1]

    results = at_once(
        lambda: lock_one_by_one(there, both_hold_one), lambda: lock_one_by_one(back, both_hold_one)
    )

    assert kinds(results) == ["None", "OperationalError"]
    assert "deadlock detected" in str(next(r for r in results if isinstance(r, OperationalError)))


def test_transfers_in_opposite_directions_never_deadlock(shared: Book) -> None:
    """The accounts are given in either order; they are locked in one."""
    there, back = shared.available, shared.available[::-1]

    def work(pair: list[UUID]) -> int:
        return sum(
            journals_post(drafts=[shared.draft((pair[0], -1), (pair[1], 1))]).posted for _ in range(40)
        )

    assert at_once(*[lambda pair=pair: work(pair) for pair in (there, back) * 2]) == [40] * 4
    assert [balance(account_id) for account_id in shared.available] == [1_000, 1_000]


def test_without_the_lock_both_posts_of_one_reference_believe_to_be_the_first(
    shared: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_off(monkeypatch, 2)

    results = at_once(spender(shared, 10, "once"), spender(shared, 10, "once"))

    # A repetition is taken for a contradiction: both looked before either had written.
    assert kinds(results) == ["PostResult(posted=1, repeated=0)", "ReferenceReused"]


def test_the_same_reference_at_once_is_posted_once(shared: Book) -> None:
    results = at_once(*[spender(shared, 10, "once") for _ in range(8)])

    assert kinds(results) == ["PostResult(posted=0, repeated=1)"] * 7 + ["PostResult(posted=1, repeated=0)"]
    assert balance(shared.available[0]) == 990


def test_one_reference_at_once_for_two_facts_is_refused_once(shared: Book) -> None:
    """Other accounts, so that no lock makes the two wait for each other: the unique reference does."""
    shared.person(1_000)
    shared.person(1_000)
    first, second = (
        shared.draft((shared.available[n], -1), (shared.available[n + 1], 1), reference="one") for n in (0, 2)
    )

    results = at_once(lambda: journals_post(drafts=[first]), lambda: journals_post(drafts=[second]))

    assert kinds(results) == ["PostResult(posted=1, repeated=0)", "ReferenceReused"]
    assert any(isinstance(result, ReferenceReused) for result in results)
    assert Journal.objects.filter(reference="one").count() == 1


def test_without_the_lock_a_journal_could_be_reversed_twice(
    shared: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.post((shared.available[0], -10), (shared.available[1], 10), reference="wrong")
    journal_id = Journal.objects.get(reference="wrong").id
    lock_off(monkeypatch, 2)

    results = at_once(*[lambda: journal_reverse(journal_id=journal_id, reason="typo")] * 2)

    assert sum(isinstance(result, IntegrityError | ReferenceReused) for result in results) == 1
    assert balance(shared.available[0]) == 1_000


def test_with_the_lock_two_reversals_are_one(shared: Book) -> None:
    shared.post((shared.available[0], -10), (shared.available[1], 10), reference="wrong")
    journal_id = Journal.objects.get(reference="wrong").id

    results = at_once(*[lambda: journal_reverse(journal_id=journal_id, reason="typo")] * 4)

    assert len(set(results)) == 1
    assert Journal.objects.get(reverses_id=journal_id).id == results[0]
    assert balance(shared.available[0]) == 1_000


def test_accounts_opened_at_once_in_any_order_are_the_same_accounts(shared: Book) -> None:
    keys = [AccountKey(AccountKind.AVAILABLE, shared.asset.id, uuid7()) for _ in range(40)]

    results = at_once(*[lambda k=k: accounts_open(keys=k) for k in (keys, keys[::-1]) * 2])

    assert all(result == results[0] for result in results)
    assert Account.objects.filter(owner_id__in=[key.owner_id for key in keys]).count() == 40


def test_pages_of_a_statement_are_exact_while_entries_arrive(shared: Book) -> None:
    """Whoever started to page sees every line that was there, once, whatever is posted meanwhile."""
    account_id = shared.available[0]
    for _ in range(60):
        shared.post((shared.available[1], -1), (account_id, 1))
    there = [line.id for line in page_all(account_id)]
    assert len(there) == 61

    def post() -> int:
        return sum(
            journals_post(drafts=[shared.draft((shared.available[1], -1), (account_id, 1))]).posted
            for _ in range(60)
        )

    def page() -> list[list[StatementLine]]:
        return [page_all(account_id) for _ in range(15)]

    pages, *posted = at_once(page, post, post)

    assert posted == [60, 60]
    for lines in pages:
        ids = [line.id for line in lines]
        assert ids == sorted(set(ids), reverse=True)
        assert ids[-61:] == there
        for newer, older in itertools.pairwise(lines):
            assert newer.balance_after_units - newer.amount_units == older.balance_after_units
    assert len(page_all(account_id)) == 181


def page_all(account_id: UUID) -> list[StatementLine]:
    lines: list[StatementLine] = []
    query = PageQuery(limit=7)
    while True:
        page = statement_page(account_id=account_id, query=query)
        lines += page.rows
        if page.next is None:
            return lines
        query = PageQuery(limit=7, cursor=page.next)
