"""Final deposits are credited once, small ones when they add up, and never what the headers do not hold."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.chain.models import Block, Network, Token
from apps.core import clock, work
from apps.deposits import crediting
from apps.deposits.kinds import CREDIT
from apps.deposits.models import Deposit, DepositRule, Holding
from apps.events.models import Event
from apps.ledger.domain import AccountKind
from apps.ledger.models import Journal
from tests.deposits.support import USDC, Bank, topics
from tests.ledger.test_races import at_once
from tests.treasury.conftest import statements


def test_what_is_final_is_available(bank: Bank) -> None:
    ann = bank.person()

    row = bank.credited(ann, 25 * USDC)

    assert (row.state, row.credited_units) == ("credited", 25 * USDC)
    assert row.credited_at is not None
    assert bank.balance(ann) == 25 * USDC == -bank.platform() == bank.held()
    assert Journal.objects.get().reference == f"deposit:{row.pk}:credit:1"
    assert topics(row) == ["seen", "credited"]
    event = Event.objects.get(topic="deposit.credited")
    assert (event.payload["credited_units"], event.payload["repaid_units"]) == (str(25 * USDC), "0")
    bank.credit()
    assert Journal.objects.count() == 1


def test_it_waits_for_the_final_block_and_then_does_not_wait_longer(bank: Bank) -> None:
    ann = bank.person()
    Network.objects.update(final_block=4)
    row = bank.confirming(ann)
    bank.credit()
    waiting = bank.read(row)
    assert waiting.state == "confirming"
    assert waiting.run_after > clock.now()
    assert work.drain(CREDIT) == 0

    Network.objects.update(final_block=5)
    assert crediting.deposits_ready() == 1
    work.drain(CREDIT)

    assert bank.read(row).state == "credited"
    assert crediting.deposits_ready() == 0


def test_a_halted_network_credits_nothing(bank: Bank) -> None:
    ann = bank.person()
    row = bank.confirming(ann)
    Network.objects.update(halted_at=clock.now())
    bank.credit()
    assert bank.read(row).state == "confirming"

    Network.objects.update(halted_at=None)
    bank.credit()
    assert bank.read(row).state == "credited"


def test_a_block_that_is_gone_credits_nothing(bank: Bank) -> None:
    ann = bank.person()
    row = bank.confirming(ann)
    bank.blocks(4, 9, chain="b")

    bank.credit()

    assert (bank.read(row).state, bank.balance(ann)) == ("confirming", 0)


@pytest.mark.parametrize(("checked", "state"), [(None, "seen"), (4, "seen"), (5, "credited")])
def test_without_a_header_only_a_proof_at_depth_counts(bank: Bank, checked: int | None, state: str) -> None:
    ann = bank.person()
    row = bank.confirming(ann)
    Deposit.objects.update(checked_block=checked)
    Block.objects.filter(number__lte=6).delete()

    bank.credit()

    assert bank.read(row).state == state


def test_the_measured_change_is_credited(bank: Bank) -> None:
    ann = bank.person()
    row = bank.confirming(ann, 100)
    Deposit.objects.update(measured_units=97)

    bank.credit()

    assert (bank.read(row).credited_units, bank.balance(ann)) == (97, 97)


def test_small_ones_wait_until_they_add_up_and_then_all_count(bank: Bank) -> None:
    ann, ben = bank.person(), bank.person()
    DepositRule.objects.update(minimum_units=100)
    small = [bank.credited(ann, 40), bank.credited(ann, 59)]
    other = bank.credited(ben, 99)
    assert [bank.read(row).state for row in (*small, other)] == ["ignored"] * 3
    assert (bank.balance(ann), bank.platform()) == (0, 0)

    last = bank.credited(ann, 1)

    assert [bank.read(row).state for row in (*small, last)] == ["credited"] * 3
    assert bank.read(other).state == "ignored"
    assert bank.balance(ann) == 100 == -bank.platform() == bank.held()
    assert topics(small[0]) == ["seen", "ignored", "credited"]
    assert topics(last) == ["seen", "credited"]


def test_an_ignored_one_whose_block_is_gone_does_not_add_up(bank: Bank) -> None:
    ann = bank.person()
    DepositRule.objects.update(minimum_units=100)
    gone = bank.credited(ann, 60, number=8)
    bank.blocks(8, 9, chain="b")

    last = bank.credited(ann, 60, number=5)

    assert [bank.read(row).state for row in (gone, last)] == ["ignored", "ignored"]


def small_pair(shared: Bank) -> list[Deposit]:
    ann = shared.person()
    DepositRule.objects.update(minimum_units=100)
    return [shared.confirming(ann, 60) for _ in range(2)]


def credit_apart(rows: list[Deposit]) -> None:
    """Each row in a worker of its own, which wait for each other before they decide."""

    def one(row: Deposit) -> None:
        from django.db import transaction

        with transaction.atomic():
            crediting.deposits_credit(list(Deposit.objects.select_for_update().filter(pk=row.pk)))

    results = at_once(*[lambda row=row: one(row) for row in rows])
    assert results == [None, None]


def test_without_the_lock_two_small_ones_miss_each_other(
    shared: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Barrier

    both = Barrier(2)
    monkeypatch.setattr(crediting, "addresses_lock", lambda _ids: None)
    decide = crediting._above_minimum

    def late(*arguments: object) -> object:
        found = decide(*arguments)  # type: ignore[arg-type]
        both.wait(10)
        return found

    monkeypatch.setattr(crediting, "_above_minimum", late)
    rows = small_pair(shared)
    credit_apart(rows)
    assert [shared.read(row).state for row in rows] == ["ignored", "ignored"]


def test_with_the_lock_two_small_ones_in_two_workers_add_up(shared: Bank) -> None:
    rows = small_pair(shared)
    credit_apart(rows)
    assert [shared.read(row).state for row in rows] == ["credited", "credited"]
    assert shared.held() == 120 == -shared.platform()


@pytest.mark.parametrize("switch", ["rule off", "rule gone", "token off"])
def test_what_was_switched_off_meanwhile_waits_for_an_operator(bank: Bank, switch: str) -> None:
    ann = bank.person()
    row = bank.confirming(ann)
    if switch == "rule off":
        DepositRule.objects.update(enabled=False)
    elif switch == "rule gone":
        DepositRule.objects.all().delete()
    else:
        Token.objects.update(enabled=False)

    bank.credit()

    row = bank.read(row)
    assert (row.state, row.reason, bank.balance(ann)) == ("unsupported", "deposits_disabled", 0)
    assert topics(row) == ["seen", "unsupported"]


def test_two_workers_share_what_is_due(shared: Bank) -> None:
    people = [shared.person() for _ in range(4)]
    shared.seen(*[shared.sighting(people[number % 4], 1 + number) for number in range(40)])
    shared.believe()

    at_once(*[lambda: work.drain(CREDIT)] * 4)

    assert set(Deposit.objects.values_list("state", flat=True)) == {"credited"}
    assert sum(shared.balance(person) for person in people) == sum(range(1, 41)) == -shared.platform()
    assert Journal.objects.filter(kind="deposit").count() == 40
    assert sum(int(held.units) for held in Holding.objects.all()) == sum(range(1, 41))


def test_hundreds_take_as_many_statements_as_one(bank: Bank) -> None:
    people = [bank.person() for _ in range(20)]
    counts = []
    for size in (20, 400):
        bank.seen(*[bank.sighting(people[number % 20]) for number in range(size)])
        bank.believe()
        with CaptureQueriesContext(connection) as asked:
            work.drain(CREDIT)
        counts.append(len(statements(asked)))
    assert counts[1] <= counts[0]
    assert sum(bank.balance(person) for person in people) == 420 * USDC
    assert bank.platform(AccountKind.LOSS, "") == 0
