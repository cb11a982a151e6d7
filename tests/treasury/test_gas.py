"""Gas: every final transaction's is booked once, whoever asks and however often."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.chain.domain import FINAL
from apps.chain.models import OutboundTransaction
from apps.chain.services import transaction_cancel
from apps.core import clock
from apps.core.ids import uuid7
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, PostResult
from apps.ledger.models import Account, Entry, Journal
from apps.ledger.services import accounts_open, journals_post
from apps.treasury.domain import gas_journal
from apps.treasury.invariants import gas_booked_once
from apps.treasury.selectors import gas_spent_units, gas_unbooked_count
from apps.treasury.services import equity_fund, gas_book
from tests.treasury.conftest import CONFIRMATIONS, ETHER, Desk, statements


@pytest.fixture
def funded(desk: Desk) -> Desk:
    desk.maker.send_ether(to=desk.wallet.address, wei=ETHER)
    equity_fund(asset_id=desk.asset_id("ETH"), amount_units=ETHER, reference="gas", note="test", actor="test")
    desk.advance()
    return desk


def _three_ends(desk: Desk) -> dict[str, OutboundTransaction]:
    """One confirmed, one reverted, one cancelled: each has burned gas."""
    accounts = desk.house.deployment.accounts
    confirmed = desk.transfer(reference="confirmed", to=accounts[1])
    # The token refuses native coin.
    reverted = desk.transfer(reference="reverted", to=desk.house.deployment.token("USDC").address)
    cancelled = desk.transfer(reference="cancelled", to=accounts[2])
    desk.advance()
    transaction_cancel(transaction_id=cancelled.pk)
    desk.advance(blocks=CONFIRMATIONS)
    rows = {row.reference: row for row in OutboundTransaction.objects.all()}
    assert {name: row.state for name, row in rows.items()} == {name: name for name in rows}
    assert set(rows) == {confirmed.reference, reverted.reference, cancelled.reference}
    return rows


@pytest.fixture
def ended(funded: Desk) -> Desk:
    from apps.chain.services import signer_rule_allow

    signer_rule_allow(network_id=funded.house.network.pk, to=funded.house.deployment.token("USDC").address)
    _three_ends(funded)
    return funded


def _burned() -> int:
    return sum(row.gas_cost_units for row in OutboundTransaction.objects.filter(state__in=FINAL))


def test_gas_of_every_end_is_booked_once(ended: Desk) -> None:
    # given three ends, not booked
    assert gas_unbooked_count() == 3
    before = ended.balance(ended.custody("ETH"))
    # when it is booked again and again
    assert [gas_book().booked for _ in range(3)] == [3, 0, 0]
    # then custody and expense moved by exactly what was burned
    burned = _burned()
    assert burned > 0
    assert ended.balance(ended.custody("ETH")) - before == burned
    assert gas_spent_units(asset_id=ended.asset_id("ETH")) == burned
    assert Journal.objects.filter(kind="gas").count() == 3
    assert gas_unbooked_count() == 0
    assert not gas_booked_once().violations


def test_transaction_that_is_not_final_is_not_booked(funded: Desk) -> None:
    funded.transfer(reference="mined", to=funded.house.deployment.accounts[1])
    funded.advance()
    funded.advance(blocks=1)
    assert OutboundTransaction.objects.get().state == "mined"
    assert gas_book().booked == 0


def test_marks_that_were_lost_are_set_again_without_a_second_booking(ended: Desk) -> None:
    gas_book()
    # given marks that a restore took back, while the journals are there
    OutboundTransaction.objects.update(gas_booked_at=None)
    assert {line.rsplit(": ", 1)[1] for line in gas_booked_once().violations} == {"booked, not marked"}
    # when
    assert gas_book().booked == 3
    # then
    assert Journal.objects.filter(kind="gas").count() == 3
    assert gas_spent_units(asset_id=ended.asset_id("ETH")) == _burned()
    assert not gas_booked_once().violations


def test_wallet_that_the_books_do_not_fund_waits_and_is_named(desk: Desk) -> None:
    # given an ether on chain that nobody booked
    desk.maker.send_ether(to=desk.wallet.address, wei=ETHER)
    desk.transfer(reference="one", to=desk.house.deployment.accounts[1])
    desk.advance()
    desk.advance(blocks=CONFIRMATIONS)
    # when
    result = gas_book()
    # then nothing is booked, and the wallet is named
    assert (result.booked, result.unfunded) == (0, (desk.wallet.address,))
    assert not Entry.objects.exists()
    # and once it is funded the gas is booked
    equity_fund(
        asset_id=desk.asset_id("ETH"), amount_units=ETHER, reference="late", note="test", actor="test"
    )
    assert gas_book().booked == 1


def test_invariant_sees_what_bookings_can_get_wrong(ended: Desk, time_travel: Callable[..., int]) -> None:
    rows = {row.reference: row for row in OutboundTransaction.objects.all()}
    assert not gas_booked_once().violations
    # one marked without a journal, one booked with another amount, one never booked
    OutboundTransaction.objects.filter(pk=rows["confirmed"].pk).update(gas_booked_at=clock.now())
    keys = [
        AccountKey(AccountKind.CUSTODY, ended.asset_id("ETH"), ref=ended.wallet.address),
        AccountKey(AccountKind.GAS, ended.asset_id("ETH")),
    ]
    accounts = accounts_open(keys=keys)
    journals_post(
        drafts=[
            gas_journal(
                transaction_id=rows["reverted"].pk,
                cost_units=5,
                custody_id=accounts[keys[0]],
                gas_id=accounts[keys[1]],
                metadata={},
            )
        ]
    )
    OutboundTransaction.objects.filter(pk=rows["reverted"].pk).update(gas_booked_at=clock.now())
    time_travel(seconds=2 * 3_600)
    assert gas_booked_once().violations == [
        f"transaction {rows['confirmed'].pk}: marked as booked, no journal",
        f"transaction {rows['reverted'].pk}: booked 5, burned {rows['reverted'].gas_cost_units}",
        f"transaction {rows['cancelled'].pk}: not booked an hour after it was final",
    ]


def test_booking_takes_the_same_queries_for_any_number(ended: Desk) -> None:
    row = OutboundTransaction.objects.get(reference="confirmed")
    copies = [
        OutboundTransaction(
            network_id=row.network_id,
            wallet_id=row.wallet_id,
            state=row.state,
            reference=f"copy:{number}",
            purpose="test",
            to=row.to,
            gas_limit=row.gas_limit,
            nonce=1_000 + number,
            block_number=row.block_number,
            gas_used=row.gas_used,
            effective_gas_price_units=row.effective_gas_price_units,
            finalized_at=row.finalized_at,
        )
        for number in range(300)
    ]
    gas_book(limit=1)
    OutboundTransaction.objects.bulk_create(copies)
    # Claim, find accounts, lock them, known references, COPY journals, COPY entries, mark.
    with CaptureQueriesContext(connection) as context:
        assert gas_book().booked == 302
    assert len(statements(context)) == 7


def _together(count: int, act: Callable[[Barrier], int]) -> list[int]:
    barrier = Barrier(count)

    def run(_: int) -> int:
        try:
            return act(barrier)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return sorted(pool.map(run, range(count)))


def test_two_bookers_at_once_book_once(ended: Desk) -> None:
    """The claim keeps them apart; were it absent, both would work on the same rows (first half)."""

    def unlocked(barrier: Barrier) -> int:
        with transaction.atomic():
            rows = list(OutboundTransaction.objects.filter(gas_booked_at__isnull=True, state__in=FINAL))
            barrier.wait(timeout=10)
            return len(rows)

    assert _together(2, unlocked) == [3, 3]

    def locked(barrier: Barrier) -> int:
        barrier.wait(timeout=10)
        return gas_book().booked

    assert sum(_together(4, locked)) == 3
    assert Account.objects.get(kind="gas").balance_units == -_burned()
    assert not gas_booked_once().violations


def test_without_its_name_a_booking_whose_mark_was_lost_is_made_twice(
    ended: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`test_marks_that_were_lost_are_set_again_without_a_second_booking` is the same with the guard."""

    def anonymous(*, drafts: Sequence[JournalDraft]) -> PostResult:
        return journals_post(drafts=[replace(draft, reference=f"any:{uuid7()}") for draft in drafts])

    gas_book()
    OutboundTransaction.objects.update(gas_booked_at=None)
    monkeypatch.setattr("apps.treasury.services.journals_post", anonymous)

    assert gas_book().booked == 3

    assert gas_spent_units(asset_id=ended.asset_id("ETH")) == 2 * _burned()
