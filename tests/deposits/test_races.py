"""Locks of deposits, what is owed and what lies where: each race with the lock off, then with it on."""

import pytest
from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.accounts.services import user_freeze
from apps.chain.models import Network
from apps.core import work
from apps.core.errors import Conflict
from apps.core.ids import uuid7
from apps.core.models import Asset
from apps.deposits import checking, debts, services
from apps.deposits.domain import FREEZE_REASON
from apps.deposits.holdings import holdings_move
from apps.deposits.kinds import CHECK
from apps.deposits.models import Deposit, DepositAddress, Rescan
from apps.deposits.pool import DepositsPool
from apps.deposits.reorgs import deposits_take_back
from apps.deposits.rescans import rescan_request
from apps.events.models import Event
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.errors import InsufficientFunds, ReferenceReused
from apps.ledger.services import accounts_open, journals_post
from tests.deposits.support import USDC, Bank
from tests.support.races import off_and_on, race

pytestmark = pytest.mark.django_db(transaction=True)
DEPOSITS, HOLDINGS = 'FROM "deposits_deposit"', 'FROM "deposits_holding"'


def taken_back(*rows: Deposit) -> int:
    with transaction.atomic():
        return deposits_take_back(ids=[row.pk for row in rows])


@off_and_on
def test_a_deposit_is_taken_back_once(shared: Bank, locked: bool) -> None:
    row = shared.credited(shared.person())

    answers = race(lambda: taken_back(row), lambda: taken_back(row), lock=DEPOSITS, locked=locked)

    # Without the lock the second finds the money gone that the first took, and halts the network.
    assert answers == [1, 0]
    assert Network.objects.filter(halted_at__isnull=True).exists() is locked


@off_and_on
def test_two_deposits_are_not_both_taken_from_what_is_left_of_one(shared: Bank, locked: bool) -> None:
    ann = shared.person()
    rows = [shared.credited(ann), shared.credited(ann)]
    with transaction.atomic():
        holdings_move({(rows[0].address_id, shared.usdc.pk): -USDC})

    _, answer = race(lambda: taken_back(rows[0]), lambda: taken_back(rows[1]), lock=HOLDINGS, locked=locked)

    assert isinstance(answer, IntegrityError) is not locked
    assert Network.objects.filter(halted_at__isnull=True).exists() is not locked
    assert shared.held() == 0


@off_and_on
def test_gas_is_paid_of_what_the_address_has_and_the_rest_is_told(shared: Bank, locked: bool) -> None:
    shared.person()
    at = DepositAddress.objects.get()
    with transaction.atomic():
        holdings_move({(at.pk, shared.native.pk): 100})

    def pay() -> set[str]:
        with transaction.atomic():
            return DepositsPool().gas_pay(asset_id=shared.native.pk, units={at.address: 60})

    answers = race(pay, pay, lock=HOLDINGS, locked=locked)

    assert answers[0] == set()
    assert answers[1] == {at.address} if locked else isinstance(answers[1], IntegrityError)


def unsupported(bank: Bank) -> Deposit:
    row = bank.confirming(bank.person())
    Deposit.objects.update(state="unsupported", reason="balance_mismatch")
    return row


@off_and_on
def test_a_second_look_does_not_take_away_what_an_operator_just_asked_for(shared: Bank, locked: bool) -> None:
    row = unsupported(shared)

    _, count = race(
        lambda: services.hand_request(deposit_id=row.pk, actor="ask@example.org", note="why"),
        lambda: services.deposits_recheck(deposit_ids=[row.pk]),
        lock=DEPOSITS,
        locked=locked,
    )

    assert count == (0 if locked else 1)
    assert Deposit.objects.get().hand_requested_by == ("ask@example.org" if locked else "")


@off_and_on
def test_what_a_neighbour_explains_is_left_alone_once_it_is_looked_at_again(
    shared: Bank, locked: bool
) -> None:
    row = unsupported(shared)

    def explain() -> None:
        found = checking._Findings(shared.network, explained={row.pk: USDC})
        with transaction.atomic():
            checking._write(work.Claim(CHECK, uuid7(), []), found, [])

    race(lambda: services.deposits_recheck(deposit_ids=[row.pk]), explain, lock=DEPOSITS, locked=locked)

    assert Deposit.objects.get().state == ("seen" if locked else "confirming")


def frozen(bank: Bank) -> tuple[User, Deposit]:
    """Somebody who spent 20 of 25 before the chain took them back."""
    ann = bank.person()
    row = bank.credited(ann, 25 * USDC)
    bank.spend(ann, 20 * USDC)
    assert taken_back(row) == 1
    row = bank.read(row)
    assert (row.state, row.owed_units) == ("frozen", 20 * USDC)
    return ann, row


@off_and_on
def test_two_operators_approve_a_write_off_once(shared: Bank, locked: bool) -> None:
    _, row = frozen(shared)
    services.hand_request(deposit_id=row.pk, actor="ask@example.org", note="why")

    def approve(actor: str) -> Deposit:
        return services.hand_approve(deposit_id=row.pk, actor=actor)

    _, answer = race(
        lambda: approve("one@example.org"),
        lambda: approve("two@example.org"),
        lock=DEPOSITS + ".*FOR UPDATE",
        locked=locked,
    )

    # Without the lock the name of the journal is what stands between, and the second is told of a mistake of ours.
    assert type(answer) is (Conflict if locked else ReferenceReused)
    assert Event.objects.filter(topic="debt.written_off").count() == 1


def given(bank: Bank, person: User, units: int) -> None:
    """Money of somebody's that no deposit brought."""
    available = AccountKey(AccountKind.AVAILABLE, bank.usdc.pk, person.pk)
    custody = AccountKey(AccountKind.CUSTODY, bank.usdc.pk, ref="0x" + "1" * 40)
    accounts = accounts_open(keys=[available, custody])
    postings = (Posting(accounts[available], units), Posting(accounts[custody], -units))
    journals_post(drafts=[JournalDraft("credit", "test:given", postings)])


@off_and_on
def test_a_debt_is_paid_once(shared: Bank, locked: bool) -> None:
    """By a credit and, at the same time, of what was given back."""
    ann, _ = frozen(shared)
    given(shared, ann, 50 * USDC)
    (new,) = shared.seen(shared.sighting(ann, 30 * USDC))
    shared.believe()

    _, answer = race(shared.credit, debts.debts_collect, lock=DEPOSITS + ".*owed_units", locked=locked)

    assert shared.read(new).state == "credited"
    assert shared.balance(ann, AccountKind.OWED) == 0
    # Without the lock the ledger's CHECK is what stands between: nobody may be owed a debt.
    assert answer == 0 if locked else isinstance(answer, InsufficientFunds)


@off_and_on
def test_of_two_debts_that_are_paid_at_once_the_later_one_frees(shared: Bank, locked: bool) -> None:
    ann = shared.person()
    other = Asset.objects.create(code="WBTC", name="Bitcoin", decimals=8)
    accounts = {}
    for asset in (shared.usdc, other):
        keys = [AccountKey(AccountKind.OWED, asset.pk, ann.pk), AccountKey(AccountKind.FEES, asset.pk)]
        opened = accounts_open(keys=keys)
        accounts[asset.code] = owed, fees = opened[keys[0]], opened[keys[1]]
        postings = (Posting(owed, -5), Posting(fees, 5))
        journals_post(drafts=[JournalDraft("debt", f"test:{asset.code}", postings)])
    user_freeze(user_id=ann.pk, reason=FREEZE_REASON)

    def pay(code: str) -> None:
        owed, fees = accounts[code]
        with transaction.atomic():
            postings = (Posting(owed, 5), Posting(fees, -5))
            journals_post(drafts=[JournalDraft("paid", f"test:{code}:paid", postings)])
            debts.people_free([ann.pk])

    race(
        lambda: pay("USDC"),
        lambda: pay("WBTC"),
        lock='FROM "accounts_user".*frozen_reason',
        locked=locked,
        read='FROM "ledger_account".*"balance_units" <',
    )

    ann.refresh_from_db()
    assert (ann.frozen_at is None) is locked


@off_and_on
def test_the_same_range_is_asked_for_once(shared: Bank, locked: bool) -> None:
    def ask() -> Rescan:
        return rescan_request(network_id=shared.network.pk, from_block=0, reason="why")

    race(ask, ask, lock='FROM "chain_network"', locked=locked, read='FROM "deposits_rescan"')

    assert Rescan.objects.count() == (1 if locked else 2)
