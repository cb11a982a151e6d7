"""Tokens and destinations that misbehave: the withdrawal ends confirmed or fails clearly, and nothing is lost."""

from pathlib import Path

import pytest

from apps.accounts.models import User
from apps.chain import kinds as chain_kinds
from apps.chain import services as chain
from apps.chain.models import Token
from apps.core import clock
from apps.ledger.domain import AccountKind
from apps.sandbox.runtime.contracts import Contracts
from apps.withdrawals.kinds import CHECK_WORK, SEND_WORK
from apps.withdrawals.models import Withdrawal
from tests.support.solidity import compiled
from tests.withdrawals.support import ETHER, Desk, books_hold, journals, topics

pytestmark = pytest.mark.django_db(transaction=True)
SOURCE = Path(__file__).parent / "contracts" / "PayoutToken.sol"
WHOLE = 10**6


class Odd:
    """USDT: six decimals, returns nothing."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.contracts: Contracts = desk.maker.chain
        self.address = self.contracts.deploy(compiled(SOURCE)["PayoutToken"], 6)
        self.token: Token = chain.token_register(
            network_id=desk.seeded.network.pk, asset_code="USDT", name="Tether", address=self.address
        )
        desk.seeded.assets["USDT"] = self.token.asset
        desk.rule("USDT", gas_units=0)

    def person(self, units: int) -> User:
        person = self.desk.person()
        self.contracts.write(self.address, "mint(address,uint256)", self.desk.seeded.wallet.address, units)
        self.desk.credit(person, "USDT", units)
        return person

    def set(self, *, manner: int = 0, paused: bool = False) -> None:
        self.contracts.write(self.address, "set(uint256,bool)", manner, paused)

    def balance(self, address: str) -> int:
        (units,) = self.contracts.read(self.address, "balanceOf(address)", address, returns=["uint256"])
        return int(units)


@pytest.fixture
def odd(desk: Desk) -> Odd:
    return Odd(desk)


@pytest.mark.parametrize("manner", [0, 1])
def test_a_token_that_returns_nothing_is_paid_out_as_one_that_returns_true(odd: Odd, manner: int) -> None:
    odd.set(manner=manner)
    person = odd.person(10 * WHOLE)
    row = odd.desk.request(person, "USDT", 4 * WHOLE)
    odd.desk.finish()

    row.refresh_from_db()
    assert (row.state, row.charged_units) == ("confirmed", row.fee_units)
    assert odd.balance(row.destination) == row.sent_units == 4 * WHOLE - row.fee_units
    assert odd.desk.balance(person, "USDT") == 6 * WHOLE
    books_hold()


@pytest.mark.parametrize(
    ("manner", "paused", "detail"),
    [(0, True, "paused"), (2, False, "the token answers that it did not transfer")],
)
def test_a_token_that_refuses_fails_before_anything_is_sent_and_the_hold_comes_back(
    odd: Odd, manner: int, paused: bool, detail: str
) -> None:
    person = odd.person(10 * WHOLE)
    odd.set(manner=manner, paused=paused)
    row = odd.desk.request(person, "USDT", 4 * WHOLE)
    odd.desk.finish()

    row.refresh_from_db()
    assert (row.state, row.reason, row.detail) == ("failed", "transfer_refused", detail)
    assert row.transaction_id is None
    assert odd.desk.balance(person, "USDT") == 10 * WHOLE
    assert journals(row) == ["hold", "release"]
    assert topics(row) == ["withdrawal.requested", "withdrawal.approved", "withdrawal.failed"]
    books_hold()


def test_a_blocked_destination_fails_and_its_neighbours_leave(odd: Odd) -> None:
    person = odd.person(10 * WHOLE)
    bad, good = odd.desk.destination(person), odd.desk.destination(person)
    odd.contracts.write(odd.address, "block_(address)", bad)
    rows = [odd.desk.request(person, "USDT", WHOLE, to) for to in (bad, good)]
    odd.desk.finish()

    states = {row.destination: (row.state, row.reason, row.detail) for row in Withdrawal.objects.all()}
    assert states == {bad: ("failed", "transfer_refused", "blocked"), good: ("confirmed", "", "")}
    assert odd.balance(good) == rows[1].sent_units
    books_hold()


def test_paused_between_the_simulation_and_the_block_it_reverts_and_the_hold_comes_back(odd: Odd) -> None:
    person = odd.person(10 * WHOLE)
    row = odd.desk.request(person, "USDT", 4 * WHOLE)
    odd.desk.step(CHECK_WORK, SEND_WORK, chain_kinds.SIGN_WORK)
    odd.set(paused=True)
    odd.desk.finish()

    row.refresh_from_db()
    assert (row.state, row.reason) == ("failed", "transaction_reverted")
    assert odd.desk.balance(person, "USDT") == 10 * WHOLE
    assert journals(row) == ["hold", "release"]
    books_hold()


def test_a_transfer_that_moved_nothing_is_a_failure_whatever_the_token_says(odd: Odd) -> None:
    person = odd.person(10 * WHOLE)
    odd.set(manner=3)
    row = odd.desk.request(person, "USDT", 4 * WHOLE)
    odd.desk.finish()

    row.refresh_from_db()
    assert (row.state, row.reason) == ("failed", "moved_nothing")
    assert odd.desk.balance(person, "USDT") == 10 * WHOLE
    books_hold()


def test_a_transfer_that_took_more_than_asked_is_not_booked_but_shown_to_an_operator(odd: Odd) -> None:
    person = odd.person(10 * WHOLE)
    odd.set(manner=4)
    row = odd.desk.request(person, "USDT", 4 * WHOLE)
    odd.desk.work_until(lambda: Withdrawal.objects.filter(buried_at__isnull=False).exists())

    row.refresh_from_db()
    assert row.state == "sent"
    assert row.last_error == f"the transfer moved {row.sent_units + 1} units instead of {row.sent_units}"
    assert odd.desk.balance(person, "USDT", AccountKind.HELD) == 4 * WHOLE
    assert journals(row) == ["hold"]


@pytest.mark.parametrize(
    ("contract", "arguments", "reason"),
    [("PayoutToken", [6], "destination_is_token"), ("PoolLike", [], "destination_is_ours")],
)
def test_a_token_or_pool_that_we_do_not_know_is_found_out_on_chain(
    desk: Desk, contract: str, arguments: list[int], reason: str
) -> None:
    address = desk.maker.chain.deploy(compiled(SOURCE)[contract], *arguments)
    person = desk.person()
    desk.fund(person, "USDC", 10 * WHOLE)
    row = desk.request(person, "USDC", 5 * WHOLE, desk.destination(person, address))
    desk.finish()

    row.refresh_from_db()
    assert (row.state, row.reason) == ("rejected", reason)
    assert desk.balance(person, "USDC") == 10 * WHOLE
    assert journals(row) == ["hold", "release"]
    books_hold()


def test_a_real_pool_of_ours_is_refused(desk: Desk) -> None:
    pool = desk.maker.deployment.pools[0].address
    person = desk.person()
    desk.fund(person, "USDC", 10 * WHOLE)
    row = desk.request(person, "USDC", 5 * WHOLE, desk.destination(person, pool))
    desk.finish()

    row.refresh_from_db()
    assert row.state == "rejected"
    books_hold()


@pytest.mark.parametrize(
    ("burns", "state", "reason"), [(3, "confirmed", ""), (2_000, "failed", "too_much_gas")]
)
def test_native_coin_goes_to_a_wallet_that_is_a_contract_unless_it_burns_too_much(
    desk: Desk, burns: int, state: str, reason: str
) -> None:
    wallet = desk.maker.chain.deploy(compiled(SOURCE)["Wallet"], burns)
    person = desk.person()
    desk.fund(person, "ETH", ETHER)
    row = desk.request(person, "ETH", ETHER // 2, desk.destination(person, wallet))
    desk.finish()

    row.refresh_from_db()
    assert (row.state, row.reason) == (state, reason)
    assert desk.on_chain("ETH", wallet) == (row.sent_units if state == "confirmed" else 0)
    books_hold()


def test_a_contract_that_takes_no_coin_fails_before_anything_is_sent(desk: Desk) -> None:
    address = desk.maker.chain.deploy(compiled(SOURCE)["PoolLike"])
    desk.person()
    person = desk.person()
    desk.fund(person, "ETH", ETHER)
    row = desk.request(person, "ETH", ETHER // 2)
    Withdrawal.objects.filter(pk=row.pk).update(destination=address, state="approved", run_after=clock.now())
    desk.finish()

    row.refresh_from_db()
    assert (row.state, row.reason, row.transaction_id) == ("failed", "transfer_refused", None)
    books_hold()
