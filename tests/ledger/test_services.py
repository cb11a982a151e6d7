"""Opening accounts, posting, holds and reversals, one caller at a time."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import transaction

from apps.core import clock
from apps.core.errors import NotFound
from apps.core.ids import uuid7
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting, PostResult, hold, release
from apps.ledger.errors import AlreadyReversed, InsufficientFunds, JournalInvalid, ReferenceReused
from apps.ledger.models import Account, Entry, Journal
from apps.ledger.services import accounts_open, balances_lock, journal_reverse, journals_post
from tests.ledger.conftest import Book, balance, books

pytestmark = pytest.mark.django_db


def test_accounts_are_opened_once_per_key(book: Book) -> None:
    owner = uuid7()
    keys = [
        AccountKey(AccountKind.AVAILABLE, book.asset.id, owner),
        AccountKey(AccountKind.HELD, book.asset.id, owner),
        AccountKey(AccountKind.FEES, book.asset.id),
        AccountKey(AccountKind.CUSTODY, book.asset.id, ref="0x" + "11" * 20),
    ]

    first = accounts_open(keys=keys)
    second = accounts_open(keys=[*keys, keys[0]])

    assert first == second
    assert len(set(first.values())) == 4
    assert first[keys[3]] == book.custody


def test_opening_what_exists_takes_one_query_and_what_does_not_three(
    book: Book, django_assert_num_queries: Callable[[int], Any]
) -> None:
    keys = [AccountKey(AccountKind.AVAILABLE, book.asset.id, uuid7()) for _ in range(50)]

    with django_assert_num_queries(3):
        accounts_open(keys=keys)
    with django_assert_num_queries(1):
        accounts_open(keys=keys)


@pytest.mark.parametrize(
    ("kind", "owned"), [(AccountKind.AVAILABLE, False), (AccountKind.HELD, False), (AccountKind.GAS, True)]
)
def test_an_account_with_the_wrong_kind_of_owner_is_not_opened(
    book: Book, kind: AccountKind, owned: bool
) -> None:
    with pytest.raises(ValueError, match="owner"):
        accounts_open(keys=[AccountKey(kind, book.asset.id, uuid7() if owned else None)])


def test_posting_moves_balances_and_writes_what_it_says(book: Book) -> None:
    draft = JournalDraft(
        "transfer",
        "the\\reference",
        [Posting(book.available[0], -300), Posting(book.available[1], 300)],
        {"note": 'tab\there, "quotes", back\\slash, ünïcode', "n": 1},
    )

    result = journals_post(drafts=[draft])

    assert result == PostResult(posted=1, repeated=0)
    journal = Journal.objects.get(reference="the\\reference")
    assert (journal.kind, journal.metadata) == ("transfer", draft.metadata)
    entries = journal.entries.order_by("id")
    assert [(e.account_id, e.asset_id, e.amount_units, e.balance_after_units) for e in entries] == [
        (book.available[0], book.asset.id, -300, 700),
        (book.available[1], book.asset.id, 300, 300),
    ]
    assert {entry.posted_at for entry in entries} == {
        journal.posted_at.replace(microsecond=journal.posted_at.microsecond // 1000 * 1000)
    }


def test_posting_takes_the_same_statements_for_one_journal_as_for_five_hundred(
    book: Book, django_assert_num_queries: Callable[[int], Any]
) -> None:
    """Lock, look up references, two COPYs; two more for the savepoint inside a transaction."""
    move = ((book.available[0], -1), (book.available[1], 1))

    with django_assert_num_queries(6):
        journals_post(drafts=[book.draft(*move)])
    with django_assert_num_queries(6):
        journals_post(drafts=[book.draft(*move) for _ in range(500)])

    assert balance(book.available[1]) == 501


def test_a_repeated_reference_is_counted_and_not_posted(book: Book) -> None:
    one = book.draft((book.available[0], -10), (book.available[1], 10), reference="one")
    two = book.draft((book.available[0], -20), (book.available[1], 20), reference="two")
    swapped = JournalDraft(one.kind, "one", list(reversed(one.postings)))

    assert journals_post(drafts=[one]) == PostResult(1, 0)
    assert journals_post(drafts=[one, two, two, swapped]) == PostResult(1, 3)
    assert journals_post(drafts=[one, two]) == PostResult(0, 2)
    assert balance(book.available[1]) == 30


def test_a_repetition_is_recognised_although_the_funds_are_gone(book: Book) -> None:
    draft = book.draft((book.available[0], -1_000), (book.available[1], 1_000))
    journals_post(drafts=[draft])

    assert journals_post(drafts=[draft]) == PostResult(0, 1)


@pytest.mark.parametrize("change", ["amount", "account", "kind", "metadata"])
@pytest.mark.parametrize("together", [False, True])
def test_a_reference_with_other_content_raises_and_writes_nothing(
    book: Book, change: str, together: bool
) -> None:
    book.person(100)
    first = JournalDraft(
        "test", "same", [Posting(book.available[0], -10), Posting(book.available[1], 10)], {"a": 1}
    )
    others = {
        "amount": JournalDraft(
            "test", "same", [Posting(book.available[0], -11), Posting(book.available[1], 11)], {"a": 1}
        ),
        "account": JournalDraft(
            "test", "same", [Posting(book.available[2], -10), Posting(book.available[1], 10)], {"a": 1}
        ),
        "kind": JournalDraft("other", "same", first.postings, {"a": 1}),
        "metadata": JournalDraft("test", "same", first.postings, {"a": 2}),
    }
    if not together:
        journals_post(drafts=[first])
    before = books()

    with pytest.raises(ReferenceReused):
        journals_post(drafts=[first, others[change]] if together else [others[change]])

    assert books() == before


def test_insufficient_funds_name_account_and_journal_and_write_nothing(book: Book) -> None:
    drafts = [
        book.draft((book.available[0], -600), (book.available[1], 600), reference=f"spend:{n}")
        for n in range(2)
    ]
    before = books()

    with pytest.raises(InsufficientFunds) as caught:
        journals_post(drafts=drafts)

    error = caught.value
    assert (error.account_id, error.balance_units, error.amount_units, error.reference) == (
        book.available[0], 400, -600, "spend:1",
    )  # fmt: skip
    assert (error.code, error.status) == ("insufficient_funds", 409)
    assert books() == before


def test_a_debit_normal_account_cannot_go_above_zero(book: Book) -> None:
    book.person(500)

    with pytest.raises(InsufficientFunds) as caught:
        book.post((book.custody, 1_501), (book.available[0], -1_000), (book.available[2], -501))

    assert caught.value.account_id == book.custody


def test_funds_that_arrive_earlier_in_the_same_call_can_be_spent(book: Book) -> None:
    journals_post(
        drafts=[
            book.draft((book.available[0], -1_000), (book.available[1], 1_000)),
            book.draft((book.available[1], -1_000), (book.available[0], 1_000)),
        ]
    )

    assert [balance(account_id) for account_id in book.available] == [1_000, 0]


def test_several_postings_on_one_account_become_one_entry(book: Book) -> None:
    book.post((book.available[0], -2_000), (book.available[0], 1_500), (book.available[1], 500))

    journal = Journal.objects.order_by("-id").first()
    assert journal is not None
    assert sorted(journal.entries.values_list("amount_units", flat=True)) == [-500, 500]


def test_amounts_beyond_64_bits_stay_exact(book: Book) -> None:
    huge = 2**256 - 1
    index = book.person(huge)

    assert balance(book.available[index]) == huge
    assert balance(book.custody) == -huge - 1_000


@pytest.mark.parametrize(
    ("postings", "message"),
    [
        ([], "moves nothing"),
        ([(0, 0)], "moves nothing"),
        ([(0, -5), (0, 5)], "moves nothing"),
        ([(0, -5), (1, 4)], "sum to zero"),
        ([(0, -5)], "sum to zero"),
        ([(0, -5), (None, 5)], "unknown account"),
    ],
)
def test_an_invalid_draft_is_refused(
    book: Book, postings: list[tuple[int | None, int]], message: str
) -> None:
    before = books()
    moves = [(uuid4() if index is None else book.available[index], units) for index, units in postings]

    with pytest.raises(JournalInvalid, match=message):
        journals_post(drafts=[book.draft(*moves)])

    assert books() == before


@pytest.mark.parametrize("reference", ["a\tb", "a\nb", "x" * 201, "\x00"])
def test_a_reference_that_is_no_plain_name_is_refused(book: Book, reference: str) -> None:
    draft = book.draft((book.available[0], -1), (book.available[1], 1), reference=reference)

    with pytest.raises(JournalInvalid, match="printable"):
        journals_post(drafts=[draft])


@pytest.mark.parametrize("units", [1.5, 1.0, True, "1"])
def test_an_amount_that_is_no_int_is_refused(book: Book, units: Any) -> None:
    with pytest.raises(TypeError, match="int base units"):
        book.post((book.available[0], units), (book.available[1], -1))


def test_assets_are_balanced_each_for_itself(book: Book, make: Callable[..., Book]) -> None:
    other = make()
    other.person(70)

    with pytest.raises(JournalInvalid, match="sum to zero"):
        book.post((book.available[0], -5), (other.available[0], 5))
    book.post((book.available[0], -5), (book.available[1], 5), (other.available[0], -7), (other.held[0], 7))

    assert (balance(book.available[1]), balance(other.held[0])) == (5, 7)


def test_hold_and_release_move_between_available_and_held(book: Book) -> None:
    accounts: dict[str, Any] = {"available_id": book.available[0], "held_id": book.held[0]}

    journals_post(drafts=[hold(reference="h", units=400, **accounts)])
    assert (balance(book.available[0]), balance(book.held[0])) == (600, 400)
    journals_post(drafts=[release(reference="r", units=150, **accounts)])
    assert (balance(book.available[0]), balance(book.held[0])) == (750, 250)

    with pytest.raises(InsufficientFunds):
        journals_post(drafts=[release(reference="r2", units=251, **accounts)])
    with pytest.raises(ValueError, match="positive"):
        hold(reference="h0", units=0, **accounts)


def test_a_reversal_undoes_a_journal_once(book: Book) -> None:
    book.post((book.available[0], -300), (book.available[1], 300), reference="wrong")
    journal = Journal.objects.get(reference="wrong")

    first = journal_reverse(journal_id=journal.id, reason="typo")
    second = journal_reverse(journal_id=journal.id, reason="again, for another reason")

    assert first == second
    assert [balance(account_id) for account_id in book.available] == [1_000, 0]
    reversal = Journal.objects.get(id=first)
    assert reversal.reverses_id == journal.id
    assert reversal.metadata == {"reason": "typo", "kind": "test", "reference": "wrong"}
    assert Journal.objects.filter(kind="reversal").count() == 1


def test_a_reversal_of_what_was_spent_is_refused(book: Book) -> None:
    book.post((book.available[0], -300), (book.available[1], 300), reference="gift")
    book.post((book.available[1], -1), (book.available[0], 1))
    journal = Journal.objects.get(reference="gift")
    before = books()

    with pytest.raises(InsufficientFunds) as caught:
        journal_reverse(journal_id=journal.id, reason="take back")

    assert caught.value.account_id == book.available[1]
    assert books() == before


def test_a_reversal_is_not_reversed_and_nothing_is_not_found(book: Book) -> None:
    journal = Journal.objects.get()
    reversal = journal_reverse(journal_id=journal.id, reason="test")

    with pytest.raises(AlreadyReversed):
        journal_reverse(journal_id=reversal, reason="test")
    with pytest.raises(NotFound):
        journal_reverse(journal_id=uuid7(), reason="test")


def test_locking_returns_balances_and_leaves_out_the_unknown(book: Book) -> None:
    unknown = uuid7()

    locked = balances_lock(account_ids=[book.available[1], unknown, book.available[0], book.available[0]])

    assert locked == {book.available[0]: 1_000, book.available[1]: 0}


@pytest.mark.django_db(transaction=True)
def test_locking_outside_a_transaction_is_refused() -> None:
    with pytest.raises(transaction.TransactionManagementError):
        balances_lock(account_ids=[])


def test_a_failed_post_leaves_the_surrounding_transaction_usable(book: Book) -> None:
    with transaction.atomic():
        with pytest.raises(InsufficientFunds):
            book.post((book.available[1], -1), (book.available[0], 1))
        book.post((book.available[0], -1), (book.available[1], 1))

    assert balance(book.available[1]) == 1


def test_ids_follow_the_books_when_the_clock_steps_back(book: Book, time_travel: Callable[..., int]) -> None:
    time_travel(seconds=3_600)
    book.post((book.available[0], -1), (book.available[1], 1))
    ahead = Account.objects.get(id=book.available[0]).last_entry_id
    (Path(settings.SANDBOX_DIR) / "clock").unlink()

    book.post((book.available[0], -1), (book.available[1], 1))

    newest = Entry.objects.filter(account_id=book.available[0]).order_by("-id")[0]
    assert newest.id > ahead
    assert newest.posted_at > clock.now() + timedelta(minutes=59)
    assert newest.balance_after_units == 998
