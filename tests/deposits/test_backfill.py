"""What waited for its token or its asset to be allowed is looked at again by itself when it is."""

from apps.deposits.backfill import deposits_backfill
from apps.deposits.models import Deposit, DepositRule
from tests.deposits.shore import Shore
from tests.deposits.support import USDC
from tests.deposits.test_checking import send, usdc


def test_a_token_that_is_allowed_later_is_credited_for_what_came_before(shore: Shore) -> None:
    ann, ben = shore.person(), shore.person()
    send(shore, shore.address(ann), 25 * USDC)
    send(shore, shore.address(ben), 7 * USDC)
    shore.land()
    assert set(Deposit.objects.values_list("state", "reason")) == {("unsupported", "token_not_allowed")}
    assert deposits_backfill() == 0
    # what an operator is deciding about stays his
    Deposit.objects.filter(user=ben).update(hand_requested_by="op@example.org")
    # when
    token = shore.allow("USDC", usdc(shore))
    assert deposits_backfill() == 1
    assert deposits_backfill() == 0
    shore.land()
    # then
    assert shore.balance(ann, token.asset) == 25 * USDC
    assert Deposit.objects.get(user=ben).state == "unsupported"


def test_an_asset_whose_deposits_are_switched_on_again(shore: Shore) -> None:
    ann = shore.person()
    token = shore.allow("USDC", usdc(shore))
    DepositRule.objects.filter(asset=token.asset).update(enabled=False)
    send(shore, shore.address(ann), 25 * USDC)
    shore.contracts.send_value(shore.address(ann), wei=10**18)
    DepositRule.objects.filter(asset=shore.native).update(enabled=False)
    shore.land()
    assert list(Deposit.objects.values_list("reason", flat=True)) == ["deposits_disabled"] * 2
    assert deposits_backfill() == 0
    DepositRule.objects.update(enabled=True)
    assert deposits_backfill() == 2
    shore.land()
    assert (shore.balance(ann, token.asset), shore.balance(ann, shore.native)) == (25 * USDC, 10**18)


def test_what_was_refused_for_another_reason_is_not_asked_for(shore: Shore) -> None:
    ann = shore.person()
    shore.allow("USDC", usdc(shore))
    send(shore, shore.address(ann), 25 * USDC)
    shore.look()
    Deposit.objects.update(state="unsupported", reason="balance_mismatch")
    assert deposits_backfill() == 0
