"""Random journals against a slow, obviously right model."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.core import invariants
from apps.core.api.pagination import PageQuery
from apps.ledger.domain import JournalDraft, Posting
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import Account, Entry, Journal
from apps.ledger.selectors import balance_as_of, statement_page
from apps.ledger.services import journals_post
from tests.ledger.conftest import Book, make_book

# One database transaction per example would be truer, but costs a rollback that the test makes anyway: each
# example has an asset, accounts and references of its own.
PROPERTY = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

units = st.one_of(st.integers(-50, 50), st.integers(-(2**255), 2**255))
# Account 0 is the custody (debit-normal), 1 to 4 are people's.
move = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 60) | st.integers(1, 2**200))
journal = st.lists(move, min_size=1, max_size=4)
calls = st.lists(
    st.lists(st.tuples(st.integers(0, 30), journal), min_size=1, max_size=8), min_size=1, max_size=5
)


@dataclass
class Model:
    """One journal after the other, in dictionaries."""

    balances: dict[UUID, int]
    custody: UUID
    said: dict[str, dict[UUID, int]]

    def fits(self, net: dict[UUID, int]) -> bool:
        return all(
            (balance <= 0) if account_id == self.custody else (balance >= 0)
            for account_id, balance in ((a, self.balances[a] + delta) for a, delta in net.items())
        )

    def post(self, reference: str, net: dict[UUID, int]) -> str:
        if reference in self.said:
            return "repeated" if self.said[reference] == net else "reused"
        if not self.fits(net):
            return "refused"
        for account_id, delta in net.items():
            self.balances[account_id] += delta
        self.said[reference] = net
        return "posted"


def open_book() -> tuple[Book, list[UUID]]:
    book = make_book()
    for _ in range(4):
        book.person()
    return book, [book.custody, *book.available]


def net_of(moves: list[tuple[int, int, int]], accounts: list[UUID]) -> dict[UUID, int]:
    net: dict[UUID, int] = {}
    for source, target, amount in moves:
        for account_id, delta in ((accounts[source], -amount), (accounts[target], amount)):
            net[account_id] = net.get(account_id, 0) + delta
    return {account_id: delta for account_id, delta in net.items() if delta}


def draft_of(book: Book, name: str, moves: list[tuple[int, int, int]], accounts: list[UUID]) -> JournalDraft:
    postings = []
    for source, target, amount in moves:
        postings += [Posting(accounts[source], -amount), Posting(accounts[target], amount)]
    return JournalDraft("random", f"{book.asset.code}:{name}", postings)


@pytest.mark.django_db
@PROPERTY
@given(drawn=calls)
def test_posting_in_bulk_is_posting_one_by_one(
    drawn: list[list[tuple[int, list[tuple[int, int, int]]]]],
) -> None:
    """Whatever the mix of repetitions, overdrafts and amounts: same balances, same refusals, all or nothing."""
    book, accounts = open_book()
    model = Model(dict.fromkeys(accounts, 0), book.custody, {})
    history: list[tuple[datetime, dict[UUID, int]]] = []

    for call in drawn:
        named = [(str(name), moves) for name, moves in call if net_of(moves, accounts)]
        before = dict(model.balances), dict(model.said)
        outcomes = [model.post(name, net_of(moves, accounts)) for name, moves in named]
        drafts = [draft_of(book, name, moves, accounts) for name, moves in named]
        if "refused" in outcomes or "reused" in outcomes:
            model.balances, model.said = before
            with pytest.raises(Exception, match=r"cannot take|was used before"):
                journals_post(drafts=drafts)
        else:
            result = journals_post(drafts=drafts)
            assert (result.posted, result.repeated) == (outcomes.count("posted"), outcomes.count("repeated"))
        assert (
            dict(Account.objects.filter(id__in=accounts).values_list("id", "balance_units")) == model.balances
        )
        newest = Entry.objects.filter(account_id__in=accounts).order_by("-id").first()
        if newest:
            history.append((newest.posted_at, dict(model.balances)))

    assert set(
        Journal.objects.filter(entries__account_id__in=accounts).values_list("reference", flat=True)
    ) == {f"{book.asset.code}:{name}" for name in model.said}
    for at, balances in history:
        assert {a: balance_as_of(account_id=a, at=at) for a in accounts} == balances
    for account_id in accounts:
        statement_replays(account_id)
    assert [verdict.violations for verdict in invariants.run_all() if verdict.name.startswith("ledger.")] == [
        ()
    ] * 4


def statement_replays(account_id: UUID) -> None:
    lines = statement_page(account_id=account_id, query=PageQuery(limit=100)).rows
    running = 0
    for line in reversed(lines):
        running += line.amount_units
        assert line.balance_after_units == running


@pytest.mark.django_db
@PROPERTY
@given(amounts=st.lists(units, min_size=1, max_size=4), balanced=st.booleans())
def test_a_journal_is_posted_exactly_when_it_sums_to_zero_and_fits(
    amounts: list[int], balanced: bool
) -> None:
    book, accounts = open_book()
    if balanced:
        amounts = [*amounts, -sum(amounts)]
    funds = 2**256
    book.post((book.custody, -funds), (accounts[1], funds))
    postings = [Posting(account_id, amount) for account_id, amount in zip(accounts, amounts, strict=False)]
    balances = [-funds, funds, 0, 0, 0]
    after = [balance + amount for balance, amount in zip(balances, amounts, strict=False)]
    draft = JournalDraft("random", f"{book.asset.code}:one", postings)

    if not any(amounts) or sum(amounts) != 0:
        with pytest.raises(Exception, match=r"moves nothing|sum to zero"):
            journals_post(drafts=[draft])
    elif after[0] > 0 or any(balance < 0 for balance in after[1:]):
        with pytest.raises(InsufficientFunds):
            journals_post(drafts=[draft])
    else:
        assert journals_post(drafts=[draft]).posted == 1
