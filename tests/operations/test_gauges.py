"""What stands in the database can be scraped: pauses, reserves, sweeps."""

from django.test import Client

from apps.deposits.sweep_planning import sweeps_plan
from apps.treasury.models import Activity
from apps.treasury.pauses import pause_set
from apps.treasury.reserves import reserves_check
from tests.deposits.collecting import USDC, Place, place

__all__ = ["place"]


def test_pauses_reserves_and_sweeps_are_scraped(place: Place, client: Client) -> None:
    place.deposit(place.address(), "USDC", 1_000 * USDC)
    place.watch()
    sweeps_plan()
    reserves_check()
    pause_set(activities=[Activity.BUYING], asset_id=None, reason="looking", actor="op")
    lines = client.get("/metrics").content.decode().splitlines()
    network = place.network.name
    assert 'tranche_pauses_active{activity="buying",source="operator"} 1.0' in lines
    assert f'tranche_sweeps_open{{network="{network}",state="planned"}} 1.0' in lines
    assert f'tranche_reserves_diverged{{asset="USDC",network="{network}"}} 0.0' in lines
    assert any(line.startswith("tranche_sweep_oldest_seconds{") for line in lines)
