"""A real process is killed at each place of collecting; another one goes on; everything moved once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from apps.chain.models import OutboundTransaction
from apps.core import clock, work
from apps.deposits.models import Sweep
from apps.deposits.sweep_planning import sweeps_plan
from apps.ledger.models import Journal
from apps.plans.kinds import BATCH, RESERVE
from apps.plans.models import Batch
from apps.treasury.domain import DEPOSITS_REF
from tests.deposits.collecting import USDC, Place, place
from tests.plans.support import outcomes
from tests.plans.test_pauses import depositor, rounds

__all__ = ["place"]

STEPS = """
import sys
import django
django.setup()
from apps.core import work
from apps.deposits.kinds import SWEEP_WORK
from apps.deposits.sweep_planning import sweeps_plan
from apps.treasury.reserves import reserves_check
from apps.treasury.services import gas_book
from apps.plans.kinds import PRICE
{
    "sweep": lambda: work.drain(SWEEP_WORK, budget_seconds=0), "gas": gas_book, "reserves": reserves_check,
    "price": lambda: work.drain(PRICE, budget_seconds=0),
}[sys.argv[1]]()
"""

STEP = (
    "work.deposits.sweep.claimed",
    "deposits.sweep.before_read",
    "deposits.sweep.before_lock",
    "deposits.sweep.before_commit",
    "deposits.sweep.after_commit",
)
# Where the sweep stands when the process is killed, and the place.
PLACES = [
    *(("planned", one) for one in STEP),
    *(("funding", one) for one in (*STEP, "deposits.sweep.top_up_posted")),
    *(("sweeping", one) for one in (*STEP, "deposits.sweep.posted")),
]


def run(step: str, tmp_path: Path, failpoint: str = "") -> int:
    """One step in a process of its own, on the test's database; its exit status."""
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "SANDBOX_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "FAILPOINTS": f"{failpoint}=kill@1" if failpoint else "",
    }
    done = subprocess.run(
        [sys.executable, "-c", STEPS, step], env=environment, timeout=90, check=False, capture_output=True
    )
    return done.returncode


def ready(place: Place, state: str) -> None:
    """A sweep that is about to leave `state`: what it waited for is final."""
    at = place.address()
    place.deposit(at, "USDC", 1_000 * USDC)
    place.watch()
    assert sweeps_plan() == 1
    for _ in range(24):
        row = Sweep.objects.get()
        waits = {"planned": None, "funding": row.funding, "sweeping": row.transaction}[row.state]
        if row.state == state and (waits is None or waits.is_final):
            place.due()
            return
        # Gas is left to the test.
        place.advance(gas=False)
    raise AssertionError(Sweep.objects.values("state").get())


@pytest.mark.slow
@pytest.mark.parametrize(("state", "where"), PLACES)
def test_killed_there_and_restarted_it_is_collected_once(
    place: Place, tmp_path: Path, state: str, where: str
) -> None:
    ready(place, state)
    assert run("sweep", tmp_path, where) == -9
    place.holds()
    place.finish()
    assert Sweep.objects.get().state == "done"
    assert sorted(OutboundTransaction.objects.values_list("purpose", flat=True)) == ["gas_top_up", "sweep"]
    assert sorted(
        Journal.objects.filter(kind__in=["sweep", "gas_top_up"]).values_list("kind", flat=True)
    ) == [
        "gas_top_up",
        "sweep",
    ]
    assert place.custody(DEPOSITS_REF, "USDC") == 0
    assert (
        place.on_chain(place.hot.address, "USDC") == place.custody(place.hot.address, "USDC") == 1_000 * USDC
    )
    place.holds()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["treasury.gas.before_post", "treasury.gas.before_commit"])
def test_killed_while_gas_is_booked_it_is_booked_once(place: Place, tmp_path: Path, where: str) -> None:
    ready(place, "sweeping")
    at = place.addresses[0]
    assert OutboundTransaction.objects.filter(purpose="sweep", gas_booked_at__isnull=True).exists()
    assert run("gas", tmp_path, where) == -9
    place.finish()
    assert place.holding(at, "ETH") == place.on_chain(at.address, "ETH")
    place.holds()


@pytest.mark.slow
def test_killed_while_reserves_are_looked_at_nothing_is_lost(place: Place, tmp_path: Path) -> None:
    ready(place, "sweeping")
    assert run("reserves", tmp_path, "treasury.reserves.before_commit") == -9
    assert run("reserves", tmp_path) == 0
    place.finish()
    place.holds()


@pytest.mark.slow
def test_killed_while_a_batch_begins_to_wait_it_has_its_units_collected_once(
    place: Place, tmp_path: Path
) -> None:
    platform, plan = depositor(place, usdc=1_000)
    for step in (RESERVE, BATCH):
        work.drain(step, budget_seconds=0)
    assert run("price", tmp_path, "plans.price.collection_awaited") == -9
    assert not Sweep.objects.exists()
    Batch.objects.update(leased_until=clock.now())
    assert rounds(place, platform, until="settled")[-1] == ("settled", "")
    assert outcomes(plan) == [(1, "settled", "filled")]
    assert Sweep.objects.count() == 1
    place.finish()
    place.holds()
