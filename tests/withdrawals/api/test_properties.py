"""A random life of withdrawals against a model: states move as allowed, and what is held is always what is open.

People ask, confirm and call off; operators decide, pause and freeze; workers take steps; transactions end as they
like. The chain's answers are rows of its own room, set as its engine would: what is checked here are our books.
"""

from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
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

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.chain.models import OutboundTransaction, Wallet
from apps.core.errors import DomainError
from apps.events.models import Event
from apps.ledger.domain import AccountKind
from apps.ledger.invariants import balances_equal_entries, journals_sum_to_zero
from apps.plans.invariants import holds_match
from apps.withdrawals import services
from apps.withdrawals.domain import CANCELLABLE, FINAL, TRANSITIONS, Reason, WithdrawalState
from apps.withdrawals.invariants import (
    withdrawals_approved_by_two,
    withdrawals_end_once,
    withdrawals_have_one_transaction,
)
from apps.withdrawals.models import Withdrawal, WithdrawalRule
from apps.withdrawals.moves import withdrawals_move
from apps.withdrawals.requesting import state_after_confirmation
from apps.withdrawals.sending import _Outlook, _send
from apps.withdrawals.settling import withdrawals_settle
from tests.withdrawals.api.conftest import OUTSIDE, USDC, Office

S = WithdrawalState
START = 10_000 * USDC
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300), pytest.mark.slow]


class Anybody:
    """Everybody has a factor, and `right` is right."""

    def enrolled(self, *, user_ids: Any) -> set[UUID]:
        return set(user_ids)

    def verify(self, *, user_id: UUID, code: str, purpose: str) -> bool:
        return code == "right"


class Life(RuleBasedStateMachine):
    office: Office
    operators: list[User]
    wallet: Wallet

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[UUID, str] = {}
        self.approvals: dict[UUID, set[int]] = {}
        self.wrong: dict[UUID, int] = {}
        self.left_units = 0
        self.fees_units = 0
        self.returned_units = 0

    @initialize(factors=st.booleans())
    def begin(self, factors: bool) -> None:
        self.office.balance()
        self.factors = factors
        second_factor.install(Anybody() if factors else second_factor.NobodyHasOne())
        self.start_units = self.office.balance() + self.office.balance(AccountKind.HELD)
        self.known = set(Withdrawal.objects.values_list("pk", flat=True))

    @staticmethod
    def refused(error: DomainError, *codes: str) -> None:
        assert error.code in codes

    def in_state(self, *states: str) -> list[UUID]:
        return [pk for pk, state in self.model.items() if state in states]

    @rule(cents=st.integers(min_value=300, max_value=30_000))
    def ask(self, cents: int) -> None:
        try:
            row = services.withdrawal_request(
                user_id=self.office.user.pk,
                asset=self.office.usdc,
                amount_units=cents * 10_000,
                destination=OUTSIDE,
            )
        except DomainError as error:
            self.refused(error, "below_minimum", "insufficient_funds")
            return
        self.model[row.pk] = S.REQUESTED

    @precondition(lambda self: self.in_state(S.REQUESTED))
    @rule(data=st.data(), bad=st.booleans())
    def check(self, data: st.DataObject, bad: bool) -> None:
        """What the check step decides, without its question to the chain."""
        pk = data.draw(st.sampled_from(self.in_state(S.REQUESTED)))
        with transaction.atomic():
            row = Withdrawal.objects.select_for_update().get(pk=pk)
            if bad:
                withdrawals_move([row], S.REJECTED, reason=Reason.DESTINATION_IS_TOKEN)
            elif self.factors:
                withdrawals_move([row], S.AWAITING_CONFIRMATION)
            else:
                withdrawals_move([row], state_after_confirmation(row, 200 * USDC))
        self.model[pk] = row.state

    @precondition(lambda self: self.in_state(S.AWAITING_CONFIRMATION))
    @rule(data=st.data(), right=st.booleans())
    def confirm(self, data: st.DataObject, right: bool) -> None:
        pk = data.draw(st.sampled_from(self.in_state(S.AWAITING_CONFIRMATION)))
        code = "right" if right else "wrong"
        try:
            row = services.withdrawal_confirm(user_id=self.office.user.pk, withdrawal_id=pk, code=code)
        except DomainError as error:
            self.refused(error, "" if right else "wrong_code")
            self.wrong[pk] = self.wrong.get(pk, 0) + 1
            if self.wrong[pk] == 5:
                self.model[pk] = S.CANCELLED
            return
        large = row.amount_units > 200 * USDC
        self.model[pk] = S.AWAITING_APPROVAL if large else S.APPROVED

    @precondition(lambda self: self.model)
    @rule(data=st.data(), who=st.integers(min_value=0, max_value=2), approve=st.booleans())
    def decide(self, data: st.DataObject, who: int, approve: bool) -> None:
        pk = data.draw(st.sampled_from(sorted(self.model)))
        act = services.withdrawal_approve if approve else services.withdrawal_reject
        words = self.approvals.setdefault(pk, set())
        allowed = (
            self.model[pk] == S.AWAITING_APPROVAL and who not in words
            if approve
            else self.model[pk] in CANCELLABLE
        )
        try:
            act(withdrawal_id=pk, operator_id=self.operators[who].pk, note="said")
        except DomainError:
            assert not allowed
            return
        assert allowed
        if not approve:
            self.model[pk] = S.REJECTED
            return
        words.add(who)
        if len(words) == 2:
            self.model[pk] = S.APPROVED

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        pk = data.draw(st.sampled_from(sorted(self.model)))
        allowed = self.model[pk] in CANCELLABLE or self.model[pk] == S.CANCELLED
        try:
            services.withdrawal_cancel(user_id=self.office.user.pk, withdrawal_id=pk)
        except DomainError as error:
            self.refused(error, "" if allowed else "not_cancellable")
            return
        assert allowed
        self.model[pk] = S.CANCELLED

    @precondition(lambda self: self.in_state(S.APPROVED))
    @rule()
    def send(self) -> None:
        """All approved ones at once, as the send step commits them after its look at the chain."""
        from apps.chain.selectors import asset_places

        with transaction.atomic():
            rows = list(
                Withdrawal.objects.select_for_update().filter(pk__in=self.in_state(S.APPROVED)).order_by("pk")
            )
            places = asset_places(asset_ids={row.asset_id for row in rows})
            outlook = _Outlook(self.wallet, places, gas_limits={row.pk: 60_000 for row in rows})
            _send(rows, outlook)
        for row in rows:
            self.model[row.pk] = S.SENDING

    @rule(cents=st.integers(min_value=300, max_value=19_000))
    def hurry(self, cents: int) -> None:
        """A small one from the request to the signer in one go: else few lives get as far as the chain."""
        before = set(self.model)
        self.ask(cents=cents)
        for pk in set(self.model) - before:
            with transaction.atomic():
                withdrawals_move([Withdrawal.objects.select_for_update().get(pk=pk)], S.APPROVED)
            self.model[pk] = S.APPROVED
            self.send()

    @precondition(lambda self: self.in_state(S.SENDING, S.SENT))
    @rule(
        data=st.data(),
        end=st.sampled_from(["sent", "confirmed", "confirmed", "reverted", "cancelled", "failed"]),
        gas=st.integers(min_value=0, max_value=10**16),
    )
    def chain_moves(self, data: st.DataObject, end: str, gas: int) -> None:
        pk = data.draw(st.sampled_from(self.in_state(S.SENDING, S.SENT)))
        self._transaction_ends(pk, end, gas)
        with transaction.atomic():
            rows = list(Withdrawal.objects.select_for_update().filter(pk=pk))
            withdrawals_settle(rows)
        row = Withdrawal.objects.get(pk=pk)
        if end == "confirmed":
            self.model[pk] = S.CONFIRMED
            gas_fee = gas * row.gas_numerator // row.gas_denominator
            charged = min(row.fee_units, row.flat_fee_units + gas_fee)
            assert row.charged_units == charged
            self.left_units += row.sent_units
            self.fees_units += charged
        elif end != "sent":
            self.model[pk] = S.FAILED
        else:
            self.model[pk] = S.SENT

    def _transaction_ends(self, pk: UUID, end: str, gas: int) -> None:
        from apps.chain import abi
        from apps.core import clock

        row = Withdrawal.objects.get(pk=pk)
        assert row.transaction_id is not None
        item = OutboundTransaction.objects.get(pk=row.transaction_id)
        mined = end in ("confirmed", "reverted")
        logs: list[dict[str, Any]] = []
        if end == "confirmed":
            topics = ["0x" + "0" * 24 + address[2:] for address in (self.wallet.address, row.destination)]
            signature = abi.topic(abi.TRANSFER_SIGNATURE)
            data = "0x" + abi.encode(["uint256"], [row.sent_units]).hex()
            logs = [{"address": item.to, "topics": [signature, *topics], "data": data}]
        nonce = OutboundTransaction.objects.count() * 1_000 + len(self.model)
        item.state, item.logs, item.succeeded = end, logs, end == "confirmed" if mined else None
        if mined:
            item.nonce = item.nonce or nonce + Event.objects.count()
            item.block_number, item.gas_used, item.effective_gas_price_units = 1, gas, 1
        item.finalized_at = clock.now() if end != "sent" else None
        item.gas_booked_at = item.finalized_at
        item.save()

    @invariant()
    def states_are_the_models(self) -> None:
        rows = Withdrawal.objects.filter(pk__in=self.model)
        assert {row.pk: row.state for row in rows} == {pk: str(state) for pk, state in self.model.items()}

    @invariant()
    def held_is_what_is_open_and_nothing_is_lost(self) -> None:
        if not hasattr(self, "start_units"):
            return
        open_units = sum(
            int(row.amount_units)
            for row in Withdrawal.objects.filter(pk__in=self.model)
            if row.state not in FINAL
        )
        held = self.office.balance(AccountKind.HELD)
        others = sum(
            int(row.amount_units)
            for row in Withdrawal.objects.filter(pk__in=self.known, closed_at__isnull=True)
        )
        assert held == open_units + others
        total = self.office.balance() + held
        assert total == self.start_units - self.left_units - self.fees_units

    def teardown(self) -> None:
        """What the process before left behind must not be held for the next: the books are checked whole."""
        checks = (
            withdrawals_end_once,
            withdrawals_have_one_transaction,
            withdrawals_approved_by_two,
            holds_match,
            journals_sum_to_zero,
            balances_equal_entries,
        )
        assert [list(check().violations) for check in checks] == [[]] * len(checks)


def test_every_life_of_withdrawals_keeps_the_books(office: Office) -> None:
    WithdrawalRule.objects.update(person_daily_units=10**18, platform_hourly_units=10**18)
    office.fund(office.user, office.usdc, START, "more")
    Life.office = office
    Life.operators = [User.objects.create(email=f"op{n}@example.org", is_staff=True) for n in range(3)]
    from tests.withdrawals.api.conftest import OURS

    Life.wallet = Wallet.objects.create(address=OURS, role="swap", key_ciphertext=b"none")
    try:
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=12,
                stateful_step_count=30,
                deadline=None,
                # The same lives each time: that every end is among them is asserted below.
                derandomize=True,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
    finally:
        second_factor.install(second_factor.NobodyHasOne())
    ends = set(Withdrawal.objects.values_list("state", flat=True))
    assert {"confirmed", "failed", "cancelled", "rejected"} <= ends


def test_every_state_leads_to_an_end_and_ends_lead_nowhere() -> None:
    for state, following in TRANSITIONS.items():
        assert bool(following) != (state in FINAL)
        assert (state in CANCELLABLE) == (S.CANCELLED in following)
