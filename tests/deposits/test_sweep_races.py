"""Locks of collecting: each race with the lock off, then with it on."""

from django.db import transaction

from apps.chain.kinds import SEND_WORK, SIGN_WORK
from apps.chain.models import OutboundTransaction
from apps.core import work
from apps.deposits.kinds import SWEEP_WORK
from apps.deposits.models import Sweep
from apps.deposits.reorgs import deposits_take_back
from apps.deposits.sweep_planning import sweeps_demand, sweeps_plan
from tests.deposits.collecting import USDC, Place, place
from tests.deposits.test_sweeping import transfer_asked_for
from tests.support.races import off_and_on, race

__all__ = ["place"]

ONE = work.Work("deposits.sweep", Sweep, SWEEP_WORK.states, perform=SWEEP_WORK.perform, chunk=1)


def step() -> int:
    return work.drain(ONE, budget_seconds=0)


@off_and_on
def test_two_sweeps_of_one_address_do_not_begin_at_once(place: Place, locked: bool) -> None:
    at = place.address()
    place.deposit(at, "USDC", 1_000 * USDC)
    place.deposit(at, "WBTC", 10**7)
    place.watch()
    assert sweeps_plan() == 2

    race(
        step,
        step,
        lock='FROM "deposits_depositaddress"',
        locked=locked,
        read='FROM "deposits_sweep".*LIMIT 1',
    )

    states = sorted(Sweep.objects.values_list("state", flat=True))
    assert states == (["funding", "planned"] if locked else ["funding", "funding"])


@off_and_on
def test_two_sweeps_of_a_measured_token_do_not_begin_at_once(place: Place, locked: bool) -> None:
    code = place.odd("FeeOnTransfer", measured=True)
    for _ in range(2):
        place.deposit(place.address(), code, 1_000 * USDC)
    place.watch()
    with transaction.atomic():
        assert sweeps_demand(asset_id=place.asset_id(code), units=10**12) == 2_000 * USDC

    race(step, step, lock='FROM "deposits_depositrule"', locked=locked, read='"state" IN .*"asset_id" =')

    states = sorted(Sweep.objects.values_list("state", flat=True))
    assert states == (["funding", "planned"] if locked else ["funding", "funding"])


@off_and_on
def test_what_a_reorg_takes_back_while_it_is_booked_is_waited_for(place: Place, locked: bool) -> None:
    at = place.address()
    row = place.deposit(at, "USDC", 1_000 * USDC)
    place.watch()
    sweeps_plan()
    transfer_asked_for(place)
    for _ in range(3):
        work.drain(SIGN_WORK, budget_seconds=0)
        work.drain(SEND_WORK, budget_seconds=0)
        place.node.mine()
        place.watch()
    assert OutboundTransaction.objects.get(purpose="sweep").state == "confirmed"
    place.due()

    def take_back() -> int:
        with transaction.atomic():
            return deposits_take_back(ids=[row.pk])

    taken, _ = race(take_back, step, lock='FROM "deposits_holding"', locked=locked)

    assert taken == 1
    (sweep,) = Sweep.objects.all()
    # Without the lock the CHECK of the holding is what stands between.
    assert ("do not know (yet)" in sweep.last_error) is locked, sweep.last_error
