"""From a transaction on the node to a person's balance and back, by the real scanner, check, credit and reorgs."""

import pytest

from apps.chain.models import Network
from apps.core import clock, invariants, work
from apps.deposits.kinds import CHECK, CREDIT, SCAN
from apps.deposits.models import Deposit, Scan
from apps.deposits.scanning import scans_ensure
from apps.deposits.services import deposits_ready, reorgs_follow
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account
from tests.deposits.shore import Shore
from tests.deposits.support import USDC

ETHER = 10**18


def turn(shore: Shore, times: int = 3) -> None:
    """Watcher, scanner, check and credit, each a few times, as the workers do all day."""
    for _ in range(times):
        shore.watch()
        Scan.objects.update(run_after=clock.now())
        work.drain(SCAN, budget_seconds=0)
        reorgs_follow()
        shore.due()
        work.drain(CHECK, budget_seconds=0)
        deposits_ready()
        work.drain(CREDIT, budget_seconds=0)


@pytest.mark.slow
def test_a_token_and_the_native_coin_come_in_and_a_reorg_takes_them_back(shore: Shore) -> None:
    scans_ensure()
    ann = shore.person()
    usdc = shore.deployment.token("USDC").address
    token = shore.allow("USDC", usdc)
    turn(shore)
    shore.contracts.write(usdc, "transfer(address,uint256)", shore.address(ann), 25 * USDC)
    shore.contracts.send_value(shore.address(ann), wei=3 * ETHER)
    turn(shore)
    assert sorted(Deposit.objects.values_list("state", flat=True)) == ["confirming", "confirming"]

    for _ in range(3):
        shore.contracts.send_value("0x" + "11" * 20, wei=1)
    turn(shore)

    assert set(Deposit.objects.values_list("state", flat=True)) == {"credited"}
    assert (
        shore.balance(ann, token.asset)
        == 25 * USDC
        == shore.custody(token.asset)
        == shore.on_chain(ann, usdc)
    )
    assert shore.balance(ann, shore.native) == 3 * ETHER == shore.custody(shore.native) == shore.on_chain(ann)

    shore.node.reorg(depth=5)
    shore.contracts.send_value("0x" + "22" * 20, wei=1)
    turn(shore, times=4)

    assert Network.objects.get().halted_at is None
    assert set(Deposit.objects.values_list("state", flat=True)) == {"reversed"}
    assert shore.custody(token.asset) == shore.on_chain(ann, usdc) == 0
    assert shore.custody(shore.native) == shore.on_chain(ann) == 0
    assert not Account.objects.filter(kind=AccountKind.OWED, balance_units__lt=0).exists()
    found = [one for one in invariants.run_all() if one.name.startswith(("deposits.", "ledger."))]
    assert {one.name: one.violations for one in found if not one.holds} == {}
