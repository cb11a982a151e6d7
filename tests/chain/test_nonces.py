"""The allocator: one nonce per intent, none skipped, whatever is refused, rolled back or raced."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.chain import services, signing, watching
from apps.chain.domain import Fees, TransactionState
from apps.chain.invariants import attempts_match_their_bytes, no_nonce_gap, one_intent_per_nonce
from apps.chain.models import Network, OutboundTransaction, TransactionAttempt, Wallet, WalletNonce
from apps.chain.transitions import Moves
from apps.core.models import Asset

GWEI = 10**9
ALLOWED, FORBIDDEN = "0x" + "a" * 40, "0x" + "f" * 40
_numbers = itertools.count(1)


def network_make() -> tuple[Network, Wallet]:
    number = next(_numbers)
    native = Asset.objects.create(code=f"N{number}", name="native", decimals=18)
    network = services.network_create(
        chain_id=90_000 + number,
        name=f"nonces-{number}",
        native_asset_id=native.pk,
        max_fee_cap_units=50 * GWEI,
    )
    wallet = services.wallet_create(role="swap")
    services.wallet_cap_set(
        wallet_id=wallet.pk, asset_id=native.pk, per_transaction_units=10, daily_units=10_000
    )
    services.signer_rule_allow(network_id=network.pk, to=ALLOWED)
    return network, wallet


class KilledError(Exception):
    """Stands for whatever ends a database transaction early."""


class NonceMachine(RuleBasedStateMachine):
    """Signing against PostgreSQL, beside a model that is a list: intent by nonce, in order."""

    @initialize(first=st.integers(0, 5))
    def begin(self, first: int) -> None:
        self.network, self.wallet = network_make()
        WalletNonce.objects.create(
            network=self.network, wallet=self.wallet, first_nonce=first, next_nonce=first
        )
        self.first = first
        self.by_nonce: list[Any] = []
        self.queued: list[OutboundTransaction] = []
        self.signed: list[OutboundTransaction] = []

    def _request(self, to: str, units: int) -> OutboundTransaction:
        return services.transaction_request(
            network_id=self.network.pk, wallet_id=self.wallet.pk, to=to, data="0x", value_units=units,
            gas_limit=30_000, purpose="test", reference=f"machine-{next(_numbers)}",
        )  # fmt: skip

    def _sign(self, row: OutboundTransaction, fees: Fees, *, killed: bool = False) -> None:
        moves = Moves()
        with transaction.atomic():
            locked = OutboundTransaction.objects.select_for_update().get(pk=row.pk)
            signing._sign_locked(locked, self.network, self.wallet, fees, moves)
            moves.publish()
            if killed:
                raise KilledError
        row.refresh_from_db()

    @rule()
    def request(self) -> None:
        self.queued.append(self._request(ALLOWED, 1))

    @precondition(lambda self: self.queued)
    @rule(data=st.data(), fee=st.integers(1, 50))
    def sign(self, data: st.DataObject, fee: int) -> None:
        row = self.queued.pop(data.draw(st.integers(0, len(self.queued) - 1)))
        self._sign(row, Fees(fee * GWEI, 1))
        assert (row.state, row.nonce) == ("signed", self.first + len(self.by_nonce))
        self.by_nonce.append(row.pk)
        self.signed.append(row)

    @precondition(lambda self: self.queued)
    @rule()
    def die_before_commit(self) -> None:
        with pytest.raises(KilledError):
            self._sign(self.queued[0], Fees(GWEI, 1), killed=True)
        assert OutboundTransaction.objects.get(pk=self.queued[0].pk).nonce is None

    @rule(case=st.sampled_from([(FORBIDDEN, 1), (ALLOWED, 11)]))
    def be_refused(self, case: tuple[str, int]) -> None:
        row = self._request(*case)
        self._sign(row, Fees(GWEI, 1))
        assert (row.state, row.nonce) == ("failed", None)

    @precondition(lambda self: self.signed)
    @rule(data=st.data(), fee=st.integers(1, 100))
    def replace(self, data: st.DataObject, fee: int) -> None:
        row = data.draw(st.sampled_from(self.signed))
        before = list(row.attempts_made.filter(nonce=row.nonce or 0).order_by("number"))
        with transaction.atomic():
            Moves().move(OutboundTransaction.objects.get(pk=row.pk), TransactionState.QUEUED)
        self._sign(row, Fees(min(fee, 50) * GWEI, 1))
        after = list(row.attempts_made.filter(nonce=row.nonce or 0).order_by("number"))
        assert after[: len(before)] == before
        for older, newer in itertools.pairwise(after):
            assert newer.number == older.number + 1
            assert 8 * newer.max_fee_units >= 9 * older.max_fee_units
            assert 8 * newer.priority_fee_units >= 9 * older.priority_fee_units
            assert newer.max_fee_units <= (2 if newer.kind == "cancel" else 1) * 50 * GWEI
            assert not (older.kind == "cancel" and newer.kind != "cancel")

    @precondition(lambda self: self.signed)
    @rule(data=st.data())
    def lose_the_nonce_to_a_foreigner(self, data: st.DataObject) -> None:
        row = self.signed.pop(data.draw(st.integers(0, len(self.signed) - 1)))
        with transaction.atomic():
            moves = Moves()
            locked = OutboundTransaction.objects.get(pk=row.pk)
            moves.move(locked, TransactionState.SUPERSEDED, foreign_block=1, foreign_hash="0x" + "0" * 64)
            watching._requeue(locked, moves)
        row.refresh_from_db()
        if row.state == "queued":
            assert row.nonce is None
            self.queued.append(row)
        else:
            assert (row.state, row.supersessions) == ("failed", watching.MAX_SUPERSESSIONS - 1)

    @invariant()
    def nonces_are_the_models(self) -> None:
        if not hasattr(self, "first"):
            return
        assert WalletNonce.objects.get(wallet=self.wallet).next_nonce == self.first + len(self.by_nonce)
        firsts = TransactionAttempt.objects.filter(wallet=self.wallet, number=1).order_by("nonce")
        assert [made.transaction_id for made in firsts] == self.by_nonce
        for check in (no_nonce_gap, one_intent_per_nonce, attempts_match_their_bytes):
            assert list(check().violations) == []


def test_nonce_allocation_agrees_with_a_list(db: None) -> None:
    run_state_machine_as_test(
        NonceMachine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def take_twice_at_once(network: Network, wallet: Wallet) -> list[int]:
    """Two threads, each a database transaction of its own, take a nonce."""
    taken: list[int] = []

    def act() -> None:
        try:
            with transaction.atomic():
                taken.append(signing.nonce_take(network_id=network.pk, wallet_id=wallet.pk))
        finally:
            connection.close()

    threads = [threading.Thread(target=act) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return sorted(taken)


class MeetingPoint:
    """Holds each reader of the allocator's row until both have read it, or for so long that only one can have."""

    def __init__(self, query: Callable[[], Any], *, seconds: float) -> None:
        self.query, self.barrier = query, threading.Barrier(2, timeout=seconds)
        self.met: list[bool] = []

    def get(self, **which: Any) -> WalletNonce:
        row: WalletNonce = self.query().get(**which)
        try:
            self.barrier.wait()
            self.met.append(True)
        except threading.BrokenBarrierError:
            self.met.append(False)
        return row


@pytest.mark.parametrize(("locked", "expected"), [(False, [3, 3]), (True, [3, 4])])
def test_without_the_row_lock_a_nonce_is_given_twice_and_with_it_once(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, locked: bool, expected: list[int]
) -> None:
    network, wallet = network_make()
    WalletNonce.objects.create(network=network, wallet=wallet, first_nonce=3, next_nonce=3)
    real = WalletNonce.objects.select_for_update
    # Where nobody waits for a lock both do come, however busy the machine.
    meeting = MeetingPoint(real, seconds=0.5) if locked else MeetingPoint(WalletNonce.objects.all, seconds=20)
    monkeypatch.setattr(WalletNonce.objects, "select_for_update", lambda: meeting)
    assert take_twice_at_once(network, wallet) == expected
    assert meeting.met == ([False, False] if locked else [True, True])


def test_two_processes_that_open_the_allocator_at_once_agree_on_its_start(chain: Any) -> None:
    def open_it() -> None:
        try:
            signing.nonce_open(network=chain.network, wallet=chain.wallet)
        finally:
            connection.close()

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    allocator = WalletNonce.objects.get()
    assert (allocator.first_nonce, allocator.next_nonce) == (0, 0)


def test_sixty_intents_signed_by_three_workers_have_sixty_nonces(chain: Any) -> None:
    from apps.chain.kinds import SIGN_WORK
    from apps.core import work

    rows = [chain.request(value_units=1) for _ in range(60)]

    def drain() -> None:
        try:
            work.drain(SIGN_WORK, budget_seconds=30)
        finally:
            connection.close()

    threads = [threading.Thread(target=drain) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(chain.read(row).nonce for row in rows) == list(range(60))
    chain.send()
    chain.node.mine(blocks=3)
    chain.watch()
    assert {chain.read(row).state for row in rows} == {"confirmed"}
    assert chain.balance(chain.recipient) == 60
