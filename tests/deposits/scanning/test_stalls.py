"""A monitor that has stalled is noticed: once, by metric, by health, and by event."""

import pytest
from django.db import connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from apps.chain.models import Network
from apps.core import clock
from apps.deposits.models import Scan
from apps.deposits.monitor import lags, monitor_check
from apps.events.models import Event
from tests.core.api.support import ApiClient, problem
from tests.deposits.scanning.conftest import Monitor

PATH = "/api/v1/health/monitor"


def _time_passes(seconds: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE deposits_scan SET scanned_at = scanned_at - make_interval(secs => %s)", [seconds]
        )


def _topics() -> list[str]:
    found = Event.objects.filter(topic__startswith="monitor.").order_by("sequence")
    return list(found.values_list("topic", flat=True))


def _metric(name: str) -> float:
    text = Client().get("/metrics", REMOTE_ADDR="127.0.0.1").content.decode()
    (sample,) = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]
    assert sample.labels == {"network": "anvil"}
    return sample.value


def test_a_stall_is_told_once_and_so_is_its_end(monitor: Monitor) -> None:
    monitor_check()
    assert _topics() == []
    monitor.chain.proxy.fault("null", method="eth_getLogs")
    monitor.fill(3)
    monitor.scan()
    monitor_check()
    assert _topics() == []

    _time_passes(61)
    for _ in range(3):
        monitor_check()
    assert _topics() == ["monitor.stalled"]
    event = Event.objects.get(topic="monitor.stalled")
    assert event.subject_id == monitor.network.pk
    assert event.payload["lag_blocks"] == 3
    assert event.payload["lag_seconds"] >= 61
    assert "null for logs" in event.payload["error"]

    monitor.chain.proxy.clear()
    monitor.scan(times=4)
    for _ in range(3):
        monitor_check()
    assert _topics() == ["monitor.stalled", "monitor.recovered"]


def test_a_head_that_is_not_known_is_a_stall_too(monitor: Monitor) -> None:
    """The watcher sees nothing new, so that the cursor stands at what looks like the head."""
    Network.objects.update(watched_at=clock.now() - (clock.now() - clock.now().replace(year=2020)))
    _time_passes(61)
    monitor.step()
    (lag,) = lags()
    assert (lag.lag_blocks, lag.stalled) == (0, True)


def test_a_halted_network_has_its_own_alert(monitor: Monitor) -> None:
    Network.objects.update(halted_at=clock.now())
    _time_passes(600)
    monitor_check()
    assert _topics() == []
    assert ApiClient().get(PATH).json()["networks"][0]["state"] == "halted"


def test_health_and_metrics_say_it(monitor: Monitor) -> None:
    body = ApiClient().get(PATH).json()
    head = monitor.network.watched_block
    assert body["status"] == "ok"
    assert body["networks"] == [
        {
            "name": "anvil",
            "state": "running",
            "head_block": head,
            "scanned_block": head,
            "lag_blocks": 0,
            "lag_seconds": body["networks"][0]["lag_seconds"],
        }
    ]
    assert (_metric("tranche_monitor_lag_blocks"), _metric("tranche_monitor_stalled")) == (0, 0)

    monitor.fill(2)
    monitor.watch()
    _time_passes(100)
    document = problem(ApiClient().get(PATH), 503, "not_ready", retryable=True)
    assert document["detail"] == "Stalled: anvil."
    assert document["networks"][0]["lag_blocks"] == 2
    assert _metric("tranche_monitor_lag_blocks") == 2
    assert _metric("tranche_monitor_lag_seconds") >= 100
    assert _metric("tranche_monitor_stalled") == 1


def test_metrics_go_on_without_the_database(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    from apps.deposits import monitor_metrics

    def away() -> None:
        raise OperationalError("away")

    monkeypatch.setattr(monitor_metrics, "lags", away)
    text = Client().get("/metrics", REMOTE_ADDR="127.0.0.1").content.decode()
    assert "tranche_monitor" not in text
    assert "django_http" in text


def test_every_network_gets_a_scan(monitor: Monitor) -> None:
    Scan.objects.all().delete()
    monitor_check()
    assert Scan.objects.get().network_id == monitor.network.pk
