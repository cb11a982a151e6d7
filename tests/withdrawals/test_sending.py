"""What may leave now, what waits and says why, and that kill switches act until the signature."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.services import user_freeze, user_unfreeze
from apps.chain import kinds as chain_kinds
from apps.chain import services as chain
from apps.chain.models import OutboundTransaction, SignerRule, TransactionAttempt, WalletCap
from apps.core import doorbell, work
from apps.core.errors import Conflict
from apps.ledger.domain import AccountKind
from apps.treasury.models import Activity
from apps.treasury.pauses import pause_lift, pause_set
from apps.withdrawals import services
from apps.withdrawals.kinds import CHECK_WORK, SEND_WORK, SETTLE_WORK
from apps.withdrawals.models import Withdrawal
from tests.withdrawals.support import ETHER, Desk, books_hold, journals, topics

pytestmark = pytest.mark.django_db(transaction=True)
WHOLE = 10**6


def state(row: Withdrawal) -> tuple[str, str]:
    row.refresh_from_db()
    return row.state, row.wait_reason


def approved(desk: Desk, code: str = "USDC", units: int = 5 * WHOLE) -> Withdrawal:
    person = desk.person()
    desk.fund(person, code, 2 * units)
    row = desk.request(person, code, units)
    desk.step(CHECK_WORK)
    assert state(row) == ("approved", "")
    return row


@pytest.mark.parametrize("everything", [False, True])
def test_a_pause_holds_an_approved_withdrawal_back_until_it_is_lifted(desk: Desk, everything: bool) -> None:
    row = approved(desk)
    asset_id = None if everything else desk.asset("USDC").pk
    (pause,) = pause_set(activities=[Activity.WITHDRAWING], asset_id=asset_id, reason="look", actor="op")
    desk.step(SEND_WORK)
    assert state(row) == ("approved", "paused")
    assert not OutboundTransaction.objects.exists()
    shown = desk.api(row.user).get(f"/api/v1/withdrawals/{row.pk}").json()
    assert shown["wait_reason"] == "paused"

    pause_lift(pause_id=pause.pk, actor="op", note="fine")
    desk.finish()
    assert state(row) == ("confirmed", "")
    books_hold()


def test_a_pause_of_another_asset_or_of_buying_holds_nothing_back(desk: Desk) -> None:
    row = approved(desk)
    pause_set(activities=[Activity.WITHDRAWING], asset_id=desk.asset("WETH").pk, reason="look", actor="op")
    pause_set(activities=[Activity.BUYING], asset_id=None, reason="look", actor="op")
    desk.step(SEND_WORK)
    assert state(row) == ("sending", "")


def test_a_kill_switch_stops_what_is_only_queued_for_the_signer(desk: Desk) -> None:
    row = approved(desk)
    desk.step(SEND_WORK)
    (pause,) = pause_set(
        activities=[Activity.WITHDRAWING], asset_id=desk.asset("USDC").pk, reason="look", actor="op"
    )
    for _ in range(3):
        desk.step(chain_kinds.SIGN_WORK)
    transaction = OutboundTransaction.objects.get()
    assert (transaction.state, transaction.nonce, transaction.attempts) == ("queued", None, 0)
    assert transaction.reason == "Withdrawals are paused"
    assert not TransactionAttempt.objects.exists()

    pause_lift(pause_id=pause.pk, actor="op", note="fine")
    desk.finish()
    assert state(row) == ("confirmed", "")
    assert OutboundTransaction.objects.get().reason == ""
    books_hold()


def test_what_a_kill_switch_holds_with_the_signer_can_be_given_up_by_an_operator(desk: Desk) -> None:
    row = approved(desk)
    desk.step(SEND_WORK)
    pause_set(activities=[Activity.WITHDRAWING], asset_id=None, reason="stolen", actor="op")
    desk.step(chain_kinds.SIGN_WORK)
    chain.transaction_cancel(transaction_id=OutboundTransaction.objects.get().pk)
    desk.finish()

    row.refresh_from_db()
    assert (row.state, row.reason) == ("failed", "transaction_cancelled")
    assert desk.balance(row.user, "USDC") == 10 * WHOLE
    books_hold()


def test_a_frozen_person_waits_even_at_the_signer(desk: Desk) -> None:
    first, second = approved(desk), approved(desk)
    desk.step(SEND_WORK)
    for row in (first, second):
        assert state(row)[0] == "sending"
    user_freeze(user_id=first.user_id, reason="owes")
    desk.step(chain_kinds.SIGN_WORK)
    queued = OutboundTransaction.objects.get(state="queued")
    assert queued.reference == f"withdrawal:{first.pk}"
    user_unfreeze(user_id=first.user_id, reason="paid")
    desk.finish()
    assert {state(row)[0] for row in (first, second)} == {"confirmed"}


def test_frozen_after_the_request_it_waits_and_says_so(desk: Desk) -> None:
    row = approved(desk)
    user_freeze(user_id=row.user_id, reason="owes")
    desk.step(SEND_WORK)
    assert state(row) == ("approved", "account_frozen")


def test_a_halted_network_holds_back(desk: Desk) -> None:
    row = approved(desk)
    chain.network_halt(network_id=desk.seeded.network.pk, reason="reorg")
    desk.step(SEND_WORK)
    assert state(row) == ("approved", "network_halted")


def test_cancelled_while_it_is_looked_at_it_is_not_sent(desk: Desk) -> None:
    """Between the claim and the lock the person calls it off."""
    row = approved(desk)
    desk.due()
    claim = work.claim_due(SEND_WORK)
    services.withdrawal_cancel(user_id=row.user_id, withdrawal_id=row.pk)
    assert SEND_WORK.perform is not None
    SEND_WORK.perform(claim)

    assert state(row) == ("cancelled", "")
    assert not OutboundTransaction.objects.exists()
    assert journals(row) == ["hold", "release"]
    books_hold()


def test_what_is_being_sent_cannot_be_called_off(desk: Desk) -> None:
    row = approved(desk)
    desk.step(SEND_WORK)
    with pytest.raises(Conflict) as refused:
        services.withdrawal_cancel(user_id=row.user_id, withdrawal_id=row.pk)
    assert refused.value.code == "not_cancellable"
    with pytest.raises(Conflict):
        services.withdrawal_reject(withdrawal_id=row.pk, operator_id=desk.operator().pk, note="late")


@pytest.mark.parametrize("code", ["USDC", "ETH"])
def test_units_that_are_not_in_the_hot_wallet_yet_are_waited_for_and_collecting_is_rung(
    desk: Desk, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two fit, the third does not: it waits, visibly, and leaves when the units are there."""
    rung: list[str] = []
    monkeypatch.setattr(doorbell, "_ringer", lambda name, _: rung.append(name))
    scale = 10 ** desk.asset(code).decimals
    person = desk.person()
    desk.fund(person, code, 10 * scale)
    wallet = desk.seeded.wallet.address
    if code == "ETH":
        desk.node.balance_set(wallet, wei=7 * scale)
    else:
        # What the books know of and the wallet does not have lies elsewhere.
        desk.credit(person, code, 3 * scale)
    units = 3 * scale if code == "ETH" else 4 * scale
    rows = [desk.request(person, code, units) for _ in range(3)]
    desk.step(CHECK_WORK, SEND_WORK)

    assert [state(row) for row in rows] == [
        ("sending", ""),
        ("sending", ""),
        ("approved", "awaiting_collection"),
    ]
    assert "deposits.sweep" in rung
    if code == "ETH":
        desk.node.balance_set(wallet, wei=110 * scale)
    else:
        desk.maker.mint(symbol=code, to=wallet, units=3 * scale)
    desk.finish()
    assert [state(row) for row in rows] == [("confirmed", "")] * 3
    if code != "ETH":
        books_hold()


def test_units_that_the_books_do_not_know_of_are_not_sent(desk: Desk) -> None:
    """A sweep that is mined and not booked: sent now, the withdrawal could not be booked."""
    person = desk.person()
    desk.fund(person, "USDC", 10 * WHOLE)
    row = desk.request(person, "USDC", 10 * WHOLE)
    desk.step(CHECK_WORK)
    from apps.ledger.domain import AccountKey, JournalDraft, Posting
    from apps.ledger.services import accounts_open, journals_post

    asset_id = desk.asset("USDC").pk
    here = AccountKey(AccountKind.CUSTODY, asset_id, ref=desk.seeded.wallet.address)
    there = AccountKey(AccountKind.CUSTODY, asset_id, ref="deposits")
    accounts = accounts_open(keys=[here, there])

    def move(units: int, name: str) -> None:
        postings = [Posting(accounts[here], units), Posting(accounts[there], -units)]
        journals_post(drafts=[JournalDraft("sweep", name, postings)])

    move(5 * WHOLE, "away")
    desk.step(SEND_WORK)
    assert state(row) == ("approved", "awaiting_collection")
    move(-5 * WHOLE, "swept")
    desk.finish()
    assert state(row) == ("confirmed", "")


def test_without_gas_money_it_waits_instead_of_blocking_the_wallets_nonces(desk: Desk) -> None:
    row = approved(desk)
    desk.node.balance_set(desk.seeded.wallet.address, wei=1_000)
    desk.step(SEND_WORK)
    assert state(row) == ("approved", "awaiting_gas")
    assert not OutboundTransaction.objects.exists()
    desk.node.balance_set(desk.seeded.wallet.address, wei=100 * ETHER)
    desk.finish()
    assert state(row) == ("confirmed", "")


def test_the_signers_refusal_fails_it_and_gives_the_hold_back(desk: Desk) -> None:
    row = approved(desk)
    WalletCap.objects.filter(asset=desk.asset("USDC")).update(per_transaction_units=1)
    desk.finish()

    row.refresh_from_db()
    assert (row.state, row.reason) == ("failed", "transaction_refused")
    assert row.detail == "over the wallet's cap per transaction"
    assert desk.balance(row.user, "USDC") == 10 * WHOLE
    assert topics(row)[-1] == "withdrawal.failed"
    books_hold()


def test_without_the_allow_list_line_the_signer_refuses(desk: Desk) -> None:
    row = approved(desk, "ETH", ETHER)
    SignerRule.objects.filter(to="0x" + "0" * 40).delete()
    desk.finish()
    row.refresh_from_db()
    assert (row.state, row.reason) == ("failed", "transaction_refused")


def test_stuck_at_a_low_fee_it_is_replaced_and_arrives_once(desk: Desk) -> None:
    row = approved(desk)
    desk.node.mining_manual()
    desk.step(SEND_WORK, chain_kinds.SIGN_WORK, chain_kinds.SEND_WORK, chain_kinds.WATCH_WORK, SETTLE_WORK)
    assert state(row) == ("sent", "")
    attempt = TransactionAttempt.objects.get()
    desk.node.transaction_drop(attempt.hash)
    TransactionAttempt.objects.update(sent_block=0)
    desk.finish()

    assert state(row) == ("confirmed", "")
    assert OutboundTransaction.objects.count() == 1
    assert desk.on_chain("USDC", row.destination) == row.sent_units
    assert topics(row).count("withdrawal.sent") == 1
    books_hold()


def test_what_a_reorg_takes_back_arrives_once(desk: Desk) -> None:
    row = approved(desk)
    desk.node.mining_manual()
    desk.step(SEND_WORK, chain_kinds.SIGN_WORK, chain_kinds.SEND_WORK)
    desk.node.mine()
    desk.step(chain_kinds.WATCH_WORK, SETTLE_WORK)
    assert OutboundTransaction.objects.get().state == "mined"
    desk.node.reorg(depth=1)
    desk.finish()

    assert state(row) == ("confirmed", "")
    assert desk.on_chain("USDC", row.destination) == row.sent_units
    assert journals(row) == ["hold", "settle"]
    books_hold()


def test_many_are_sent_in_as_many_statements_as_few(desk: Desk) -> None:
    person = desk.person()
    desk.fund(person, "USDC", 1_000 * WHOLE)
    destination = desk.destination(person)

    def statements(count: int) -> int:
        for _ in range(count):
            desk.request(person, "USDC", 5 * WHOLE, destination)
        desk.step(CHECK_WORK)
        desk.due()
        with CaptureQueriesContext(
            connection,
        ) as captured:
            work.drain(SEND_WORK)
        return len(captured)

    few, many = statements(2), statements(40)
    assert Withdrawal.objects.filter(state="sending").count() == 42
    # The same but for breaker rows and the sum of what is under way, which is empty the first time.
    assert abs(many - few) <= 2, (few, many)
    assert many <= 60
