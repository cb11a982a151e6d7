"""One scrape tells the whole platform, whichever process answers it."""

import http.client
import os
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import Error, connection
from django.test import Client, override_settings

from apps.chain.models import RpcEndpoint
from apps.chain.services import endpoint_add, network_create
from apps.core import clock
from apps.core.invariants import run_all
from apps.core.models import Asset, WorkProbe
from apps.operations.metrics import invariants_check
from apps.providers.models import Venue, VenueHealth
from apps.sandbox.runtime.processes import Child, child_start_on_free_port
from tests.core.api.test_granian import database_url


def scrape() -> dict[str, float]:
    """Every sample of ours by its name with labels."""
    text = Client().get("/metrics", REMOTE_ADDR="127.0.0.1").content.decode()
    found = re.findall(r"(?m)^(tranche_\S+?(?:\{.*\})?) (\S+)$", text)
    return {name: float(value) for name, value in found}


@pytest.fixture(autouse=True)
def _no_earlier_run() -> None:
    cache.clear()


@pytest.mark.django_db
def test_queues_networks_endpoints_and_venues_as_the_database_has_them() -> None:
    # given an endpoint that works and one that rests, a venue whose breaker is open, and three rows of work
    native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    network = network_create(chain_id=1, name="one", native_asset_id=native.pk)
    for name in ("good", "bad", "off"):
        endpoint_add(network_id=network.pk, name=name, url="https://user:hunter2@rpc.example.org")
    RpcEndpoint.objects.filter(name="bad").update(failures=3)
    RpcEndpoint.objects.filter(name="off").update(enabled=False)
    venue = Venue.objects.create(network=network, kind="uniswap_v2", name="V2", router_address="0x" + "1" * 40,
                                 factory_address="0x" + "2" * 40)  # fmt: skip
    VenueHealth.objects.create(venue=venue, open_until=clock.now())
    now = clock.now()
    WorkProbe.objects.create(run_after=now - timedelta(seconds=90))
    WorkProbe.objects.create(run_after=now + timedelta(hours=1))
    WorkProbe.objects.create(run_after=now, buried_at=now)
    # when somebody looks
    found = scrape()
    # then
    assert found["tranche_database_up"] == 1
    states = ("due", "leased", "buried")
    assert [found[f'tranche_work_items{{kind="core.probe",state="{state}"}}'] for state in states] == [
        1,
        0,
        1,
    ]
    assert 90 <= found['tranche_work_oldest_due_seconds{kind="core.probe"}'] < 120
    assert found['tranche_work_oldest_due_seconds{kind="chain.sign"}'] == 0
    assert found['tranche_network_halted{network="one"}'] == 0
    assert {name: value for name, value in found.items() if "rpc_endpoint" in name} == {
        'tranche_rpc_endpoint_up{endpoint="good",network="one"}': 1,
        'tranche_rpc_endpoint_up{endpoint="bad",network="one"}': 0,
    }
    assert found['tranche_venue_up{network="one",venue="V2"}'] == 0
    # and no run of the invariants is told before there was one
    assert not [name for name in found if "invariants" in name]


@pytest.mark.django_db
def test_the_last_run_of_the_invariants_is_told() -> None:
    assert invariants_check() == []
    found = scrape()
    assert found["tranche_invariants_broken"] == 0
    assert found["tranche_invariants_checked"] == len(run_all())
    assert abs(found["tranche_invariants_checked_timestamp_seconds"] - clock.now().timestamp()) < 60


@pytest.mark.django_db
def test_without_database_or_cache_it_says_so_and_answers() -> None:
    with connection.cursor() as cursor, pytest.raises(Error):
        cursor.execute("SELECT 1 / 0")  # the transaction is lost, and with it each query from here on
    with override_settings(
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": "redis://127.0.0.1:1/0",
            }
        }
    ):
        found = scrape()
    assert found == {"tranche_database_up": 0}


# Several processes


@pytest.fixture
def port(django_db_setup: None, tmp_path: Path) -> Iterator[int]:
    """A web role with three processes, as production starts it."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "WEB_WORKERS": "3",
        "WEB_THREADS": "1",
        "HEARTBEAT_DIR": str(tmp_path),
    }

    def make(port: int) -> Child:
        return Child(
            name="web",
            argv=[sys.executable, "-m", "config.roles", "web"],
            log=tmp_path / "web.log",
            environment={**environment, "PORT": str(port)},
            directory=settings.BASE_DIR,
        )

    def ready(port: int, child: Child) -> bool:
        # Each of the three says so when it serves.
        return child.log.exists() and child.log.read_text().count("Started worker-") == 3

    child, port = child_start_on_free_port(make, ready=ready, seconds=90)
    yield port
    child.stop()


def get(port: int, path: str) -> str:
    """Over a connection of its own, so that the kernel may give it to any of the processes."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        link.request("GET", path)
        response = link.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        link.close()


@pytest.mark.slow
@pytest.mark.e2e
def test_requests_are_counted_over_all_processes_whoever_is_asked(port: int, tmp_path: Path) -> None:
    for _ in range(60):
        get(port, "/api/v1/health")
    counted = re.compile(
        r'django_http_responses_total_by_status_view_method_total\{method="GET",status="200",view="health"\} (\S+)'
    )
    seen = [float(counted.findall(get(port, "/metrics"))[0]) for _ in range(20)]
    assert seen == [60.0] * 20
    # More than one process took part, or nothing was shown.
    assert len(list((tmp_path / "metrics").glob("counter_*.db"))) > 1
