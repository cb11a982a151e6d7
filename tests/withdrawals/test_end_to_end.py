"""On the real chain: what leaves the account, what arrives, and what the books say, to the last unit."""

import pytest

from apps.accounts.models import User
from apps.chain.models import OutboundTransaction
from apps.ledger.domain import AccountKind
from apps.withdrawals.domain import fee_charged
from apps.withdrawals.models import Withdrawal
from tests.withdrawals.support import Desk, books_hold, journals, topics

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(("code", "decimals"), [("USDC", 6), ("WBTC", 8), ("LINK", 18), ("ETH", 18)])
def test_a_withdrawal_arrives_and_both_sides_agree_to_the_last_unit(
    desk: Desk, code: str, decimals: int
) -> None:
    assert desk.asset(code).decimals == decimals
    person: User = desk.person()
    whole = 10**decimals
    desk.fund(person, code, 3 * whole)
    destination = desk.destination(person)
    amount = 2 * whole + 12_345

    row = desk.request(person, code, amount, destination)
    assert (desk.balance(person, code), desk.balance(person, code, AccountKind.HELD)) == (
        3 * whole - amount,
        amount,
    )
    desk.finish()

    row = Withdrawal.objects.get(pk=row.pk)
    transaction = OutboundTransaction.objects.get()
    assert (row.state, row.reason) == ("confirmed", "")
    assert transaction.reference == f"withdrawal:{row.pk}"
    assert row.amount_units == row.sent_units + row.fee_units
    assert desk.on_chain(code, destination) == row.sent_units
    gas_units = transaction.gas_cost_units * row.gas_numerator // row.gas_denominator
    assert row.charged_units == min(row.fee_units, row.flat_fee_units + gas_units)
    assert row.flat_fee_units <= row.charged_units <= row.fee_units
    assert row.gas_cost_units == transaction.gas_cost_units
    assert desk.balance(person, code) == 3 * whole - amount + (row.fee_units - row.charged_units)
    assert desk.balance(person, code, AccountKind.HELD) == 0
    assert desk.platform_units(AccountKind.FEES, code) == row.charged_units
    assert journals(row) == ["hold", "settle"]
    assert topics(row) == [
        "withdrawal.requested",
        "withdrawal.approved",
        "withdrawal.sent",
        "withdrawal.confirmed",
    ]
    books_hold()


def test_the_fee_never_exceeds_the_quote_and_is_rounded_in_the_persons_favour() -> None:
    price = {"numerator": 3, "denominator": 7}
    assert fee_charged(quoted_units=100, flat_units=10, gas_cost_units=20, **price) == 18
    assert fee_charged(quoted_units=15, flat_units=10, gas_cost_units=20, **price) == 15
    assert fee_charged(quoted_units=10, flat_units=10, gas_cost_units=0, **price) == 10
