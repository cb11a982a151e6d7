"""Money that lies at a deposit address when somebody withdraws: it waits, the sweep brings it, it leaves."""

from datetime import timedelta

import pytest

from apps.chain import services as chain
from apps.core import clock, work
from apps.deposits.models import Sweep
from apps.withdrawals import services
from apps.withdrawals.kinds import CHECK_WORK, SEND_WORK, SETTLE_WORK
from apps.withdrawals.models import Withdrawal, WithdrawalDestination, WithdrawalRule
from tests.deposits.collecting import Place, place  # noqa: F401 — the fixture
from tests.withdrawals.support import outside

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("code", ["USDC", "ETH"])
def test_a_withdrawal_of_what_was_deposited_waits_until_it_is_collected_and_leaves(
    place: Place,  # noqa: F811
    code: str,
) -> None:
    whole = 10 ** place.seeded.assets[code].decimals
    address = place.address()
    place.deposit(address, code, 1_000 * whole)
    asset = place.seeded.assets[code]
    WithdrawalRule.objects.create(
        asset=asset,
        minimum_units=1,
        gas_units=0,
        flat_fee_units=whole,
        person_daily_units=10**30,
        platform_hourly_units=10**30,
    )
    services.payouts_allow(asset_id=asset.pk)
    chain.wallet_cap_set(
        wallet_id=place.hot.pk, asset_id=asset.pk, per_transaction_units=10**40, daily_units=10**42
    )
    past = clock.now() - timedelta(days=2)
    to = WithdrawalDestination.objects.create(
        user_id=address.user_id, address=outside(), label="mine", created_at=past, usable_at=past
    )
    row = services.withdrawal_request(
        user_id=address.user_id, asset=asset, amount_units=900 * whole, destination=str(to.address)
    )
    _step(place)
    row.refresh_from_db()
    assert (row.state, row.wait_reason) == ("approved", "awaiting_collection")
    assert Sweep.objects.filter(asset=asset, address=address).count() == 1

    for _ in range(25):
        place.advance()
        _step(place)
        row.refresh_from_db()
        if row.closed_at:
            break
    assert (row.state, row.wait_reason) == ("confirmed", "")
    place.finish()
    if code == "ETH":
        arrived = int(place.node.rpc.call("eth_getBalance", row.destination, "latest"), 16)
    else:
        arrived = place.maker.balance(symbol=code, of=row.destination)
    assert arrived == row.sent_units == 899 * whole
    place.holds()


def _step(place: Place) -> None:  # noqa: F811
    for kind in (CHECK_WORK, SEND_WORK, SETTLE_WORK):
        place.due()
        Withdrawal.objects.update(run_after=clock.now())
        work.drain(kind, budget_seconds=0)
