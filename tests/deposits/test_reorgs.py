"""After the credit: the books follow the chain, to the unit, whatever was spent meanwhile."""

from threading import Barrier
from typing import Any

import pytest
from django.db import transaction

from apps.accounts.models import User
from apps.accounts.services import user_freeze
from apps.chain.models import Network
from apps.core import clock
from apps.core.invariants import run_all
from apps.deposits.crediting import deposits_credit
from apps.deposits.debts import debts_collect
from apps.deposits.invariants import collected_on_chain
from apps.deposits.models import Deposit, Holding
from apps.deposits.services import deposits_orphan, reorgs_follow
from apps.events.models import Event
from apps.ledger.domain import AccountKind
from apps.ledger.models import Journal
from tests.deposits.support import USDC, Bank, topics
from tests.ledger.test_races import at_once


def owed(bank: Bank, person: User) -> int:
    return -bank.balance(person, AccountKind.OWED)


def test_what_is_still_there_is_taken_back(bank: Bank) -> None:
    ann = bank.person()
    row = bank.credited(ann, 25 * USDC)
    bank.blocks(4, 9, chain="b")

    assert deposits_orphan(bank.network.pk) == 1

    row = bank.read(row)
    assert (row.state, row.credited_units, row.owed_units, row.credited_at) == ("reversed", 0, 0, None)
    assert (bank.balance(ann), bank.platform(), bank.held(), owed(bank, ann)) == (0, 0, 0, 0)
    assert topics(row) == ["seen", "credited", "reversed"]
    ann.refresh_from_db()
    assert ann.frozen_at is None
    assert deposits_orphan(bank.network.pk) == 0


def test_what_was_spent_is_owed_and_the_person_frozen(bank: Bank, caplog: pytest.LogCaptureFixture) -> None:
    ann = bank.person()
    before = bank.spend  # what was bought before the credit is not named
    bank.credited(ann, 5 * USDC, number=2)
    before(ann, 5 * USDC)
    row = bank.credited(ann, 25 * USDC)
    reference = bank.spend(ann, 20 * USDC)
    bank.spend(ann, 2 * USDC, kind="withdrawal")
    bank.blocks(4, 9, chain="b")

    deposits_orphan(bank.network.pk)

    row = bank.read(row)
    assert (row.state, row.owed_units) == ("frozen", 22 * USDC)
    assert (bank.balance(ann), owed(bank, ann)) == (0, 22 * USDC)
    assert bank.platform() == -5 * USDC == -bank.held()
    ann.refresh_from_db()
    assert ann.frozen_at is not None
    assert topics(row) == ["seen", "credited", "reversed", "frozen"]
    payload = Event.objects.get(topic="deposit.reversed").payload
    assert (payload["reversed_units"], payload["owed_units"], payload["purchase_count"]) == (
        str(25 * USDC),
        str(22 * USDC),
        1,
    )
    assert [(one["reference"], one["units"]) for one in payload["purchases"]] == [(reference, str(20 * USDC))]
    assert "credited deposit reversed" in caplog.text


def test_included_again_it_is_credited_once_and_pays_the_debt(bank: Bank) -> None:
    ann = bank.person()
    row = bank.credited(ann, 25 * USDC, transaction="one")
    bank.spend(ann, 20 * USDC)
    bank.blocks(4, 9, chain="b")
    deposits_orphan(bank.network.pk)

    bank.confirming(ann, 25 * USDC, transaction="one", number=7, chain="b")
    bank.credit()

    row = bank.read(row)
    assert (row.state, row.sighting, row.credited_units, row.owed_units) == ("credited", 2, 25 * USDC, 0)
    assert (bank.balance(ann), owed(bank, ann)) == (5 * USDC, 0)
    assert bank.platform() == -25 * USDC == -bank.held()
    ann.refresh_from_db()
    assert ann.frozen_at is None
    assert Event.objects.filter(topic="deposit.credited").last().payload["repaid_units"] == str(20 * USDC)  # type: ignore[union-attr]
    references = sorted(
        Journal.objects.filter(reference__startswith="deposit:").values_list("kind", flat=True)
    )
    assert references == ["deposit", "deposit", "deposit_reversal"]


def test_replaced_by_another_transaction_the_other_one_pays_the_debt(bank: Bank) -> None:
    ann = bank.person()
    first = bank.credited(ann, 25 * USDC)
    bank.spend(ann, 25 * USDC)
    bank.blocks(4, 9, chain="b")
    deposits_orphan(bank.network.pk)

    second = bank.credited(ann, 10 * USDC, number=6, chain="b")
    assert (bank.read(first).state, bank.read(first).owed_units) == ("frozen", 15 * USDC)
    ann.refresh_from_db()
    assert ann.frozen_at is not None
    bank.credited(ann, 20 * USDC, number=6, chain="b")

    assert (bank.read(first).state, bank.read(first).owed_units) == ("reversed", 0)
    assert bank.read(second).state == "credited"
    assert (bank.balance(ann), owed(bank, ann)) == (5 * USDC, 0)
    assert bank.platform() == -30 * USDC == -bank.held()
    ann.refresh_from_db()
    assert ann.frozen_at is None


def test_what_becomes_free_later_pays_the_debt(bank: Bank) -> None:
    """A hold that is given back: part of the debt first, then the rest, and never more."""
    ann = bank.person()
    bank.credited(ann, 5 * USDC, number=2)
    bank.spend(ann, 5 * USDC)
    row = bank.credited(ann, 25 * USDC)
    bank.spend(ann, 20 * USDC)
    bank.blocks(4, 9, chain="b")
    deposits_orphan(bank.network.pk)
    assert debts_collect() == 0
    # when
    bank.spend(ann, -8 * USDC, kind="release")
    assert [debts_collect(), debts_collect()] == [1, 0]
    # then
    assert (bank.read(row).state, bank.read(row).owed_units) == ("frozen", 12 * USDC)
    assert (bank.balance(ann), owed(bank, ann)) == (0, 12 * USDC)
    ann.refresh_from_db()
    assert ann.frozen_at is not None
    bank.spend(ann, -15 * USDC, kind="release")
    assert debts_collect() == 1
    assert (bank.read(row).state, bank.balance(ann), owed(bank, ann)) == ("reversed", 3 * USDC, 0)
    assert Journal.objects.filter(kind="debt_repaid").count() == 2
    assert [line for v in run_all() if v.name.startswith("deposits.") for line in v.violations] == []
    ann.refresh_from_db()
    assert ann.frozen_at is None


def test_who_is_frozen_for_another_reason_stays_frozen(bank: Bank) -> None:
    ann = bank.person()
    bank.credited(ann, 25 * USDC, transaction="one")
    bank.spend(ann, 25 * USDC)
    user_freeze(user_id=ann.pk, reason="court order")
    bank.blocks(4, 9, chain="b")
    deposits_orphan(bank.network.pk)

    bank.credited(ann, 25 * USDC, transaction="one", number=7, chain="b")

    ann.refresh_from_db()
    assert (ann.frozen_reason, owed(bank, ann)) == ("court order", 0)


def test_several_of_one_person_share_what_is_left(bank: Bank) -> None:
    ann = bank.person()
    rows = [bank.credited(ann, 10 * USDC) for _ in range(3)]
    bank.spend(ann, 14 * USDC)
    bank.blocks(4, 9, chain="b")

    assert deposits_orphan(bank.network.pk) == 3

    assert [bank.read(row).owed_units for row in rows] == [0, 4 * USDC, 10 * USDC]
    assert (owed(bank, ann), bank.balance(ann), bank.platform()) == (14 * USDC, 0, 0)


@pytest.mark.parametrize("state", ["seen", "confirming", "ignored", "unsupported"])
def test_before_the_credit_it_is_only_said(bank: Bank, state: str) -> None:
    ann = bank.person()
    row = bank.confirming(ann)
    Deposit.objects.update(state=state)
    bank.blocks(4, 9, chain="b")

    assert deposits_orphan(bank.network.pk) == 1

    row = bank.read(row)
    assert (row.state, row.measured_units, row.checked_block) == ("orphaned", None, None)
    assert topics(row) == ["seen", "orphaned"]
    assert not Journal.objects.exists()


def halted_over(row: Deposit) -> bool:
    return str(row.pk) in Network.objects.get().halted_reason


def resume() -> None:
    Network.objects.update(halted_at=None, halted_reason="")


def collected_and_gone(bank: Bank) -> Deposit:
    """Credited, collected, and then its block is taken back."""
    row = bank.credited(bank.person(), transaction="one")
    Holding.objects.update(units=0)
    bank.blocks(4, 9, chain="b")
    deposits_orphan(bank.network.pk)
    return bank.read(row)


def test_what_was_collected_already_halts_the_network_once(bank: Bank) -> None:
    row = collected_and_gone(bank)

    assert (row.state, row.gone_at is None, halted_over(row)) == ("credited", False, True)
    assert [found for found in collected_on_chain().violations if str(row.pk) in found]

    resume()
    assert deposits_orphan(bank.network.pk) == 0
    assert not halted_over(row), "an operator who resumed would have to do so every ten seconds, for ever"


def test_what_was_collected_counts_in_the_block_that_shows_it_again(bank: Bank) -> None:
    row = collected_and_gone(bank)
    resume()
    journals = Journal.objects.count()

    bank.seen(bank.sighting(row.user, transaction="one", number=7, chain="b"))

    row = bank.read(row)
    assert (row.state, row.gone_at, row.block_number, row.sighting) == ("credited", None, 7, 1)
    assert (bank.balance(row.user), Journal.objects.count()) == (USDC, journals)
    assert not collected_on_chain().violations

    bank.blocks(6, 9, chain="c")
    deposits_orphan(bank.network.pk)
    assert halted_over(row), "gone a second time"


def test_what_was_collected_does_not_halt_the_network_when_it_is_there_again_at_once(bank: Bank) -> None:
    row = bank.credited(bank.person(), transaction="one")
    Holding.objects.update(units=0)
    bank.blocks(4, 9, chain="b")

    bank.seen(bank.sighting(row.user, transaction="one", number=7, chain="b"))

    assert (bank.read(row).block_number, halted_over(row)) == (7, False)
    assert deposits_orphan(bank.network.pk) == 0


@pytest.mark.parametrize(
    ("another", "change"),
    [(False, {"units": 2 * USDC}), (False, {"contract": "0x" + "ee" * 20}), (True, {})],
    ids=["amount", "token", "person"],
)
def test_what_was_collected_is_not_taken_for_something_else(
    bank: Bank, another: bool, change: dict[str, Any]
) -> None:
    row = collected_and_gone(bank)
    person = bank.person() if another else row.user

    bank.seen(bank.sighting(person, transaction="one", number=7, chain="b", **change))

    row = bank.read(row)
    assert (row.block_number, row.gone_at is None, row.state) == (5, False, "credited")


def credit_against_reorg(shared: Bank, row: Deposit, meet: Barrier, *, locked: bool) -> None:
    """A worker has looked at the headers; the reorg comes and is followed; then the worker commits.

    With the lock, whoever follows the reorg waits for that commit.
    """

    def credit() -> None:
        with transaction.atomic():
            deposits_credit(list(Deposit.objects.select_for_update().filter(pk=row.pk)))

    def reorg() -> None:
        meet.wait(10)
        shared.blocks(4, 9, chain="b")
        meet.wait(10)
        deposits_orphan(shared.network.pk)
        if not locked:
            meet.wait(10)

    results = at_once(credit, reorg)
    assert results == [None, None]


@pytest.mark.parametrize("locked", [False, True])
def test_a_credit_that_races_with_a_reorg_is_reversed(
    shared: Bank, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    """Without the row's lock the fork is followed too early and the credit stays; with it, it is taken back."""
    from django.db.models import QuerySet

    from apps.deposits import crediting

    ann = shared.person()
    row = shared.confirming(ann, transaction="one")
    meet = Barrier(2)
    facts = crediting._facts

    def slow(rows: list[Deposit]) -> object:
        found = facts(rows)
        meet.wait(10)
        meet.wait(10)
        if not locked:
            meet.wait(10)  # until the other side has done its work
        return found

    monkeypatch.setattr(crediting, "_facts", slow)
    if not locked:
        monkeypatch.setattr(QuerySet, "select_for_update", lambda self, **_: self)
    credit_against_reorg(shared, row, meet, locked=locked)

    states = shared.read(row).state, shared.balance(ann)
    assert states == (("reversed", 0) if locked else ("credited", USDC))
    if not locked:
        monkeypatch.undo()
        # What was missed then is found by the recurring look.
        assert reorgs_follow() == 1
        assert (shared.read(row).state, shared.balance(ann)) == ("reversed", 0)


def test_clock_is_not_asked_for_reorgs(bank: Bank) -> None:
    """Block times and our clock may differ by hours: headers alone decide."""
    ann = bank.person()
    row = bank.confirming(ann)
    Deposit.objects.update(block_time=clock.now().replace(year=2001))
    bank.credit()
    assert bank.read(row).state == "credited"
