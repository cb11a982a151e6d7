"""What Prometheus is told of the platform as a whole, read from the database at each scrape.

These gauges are the same whichever process answers: take `max`, not `sum`, over replicas. Request metrics are
django-prometheus' and are counted over all processes of one web container (`config.roles`).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

import redis
from django.core.cache import cache
from django.db import Error, connection
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg import sql

from apps.chain.failover import rested
from apps.chain.selectors import endpoints_list, networks_list
from apps.core import clock, invariants, metrics, work
from apps.providers.selectors import venues_list

_INVARIANTS_KEY = "operations:invariants"


@dataclass(frozen=True)
class InvariantsSeen:
    """The last run: how many were checked, how many did not hold, when (seconds since the epoch)."""

    checked: int
    broken: int
    at: float


def invariants_check() -> list[invariants.Verdict]:
    """Run every invariant and keep the outcome where each web process finds it; answers the broken ones."""
    verdicts = invariants.run_all()
    broken = [verdict for verdict in verdicts if not verdict.holds]
    seen = InvariantsSeen(len(verdicts), len(broken), clock.now().timestamp())
    # Without a cache a gauge is missing for a quarter of an hour; the caller's log is not.
    with suppress(redis.RedisError):
        cache.set(_INVARIANTS_KEY, asdict(seen), timeout=None)
    return broken


def metrics_text() -> bytes:
    """The gauges in Prometheus' text format. Without a database only `tranche_database_up 0`."""
    registry = CollectorRegistry()
    registry.register(_Database())
    return generate_latest(registry)


class _Database(Collector):
    def describe(self) -> list[Metric]:
        return []  # registering must not ask the database

    def collect(self) -> Iterator[Metric]:
        found: list[Metric] = []
        try:
            found = [*_work(), *_chain(), *_venues(), *_registered()]
        except Error:
            found = []
        yield GaugeMetricFamily("tranche_database_up", "Whether PostgreSQL answered.", value=bool(found))
        yield from found
        yield from _invariants()


def _work() -> Iterator[Metric]:
    items = GaugeMetricFamily("tranche_work_items", "Rows of work, by state.", labels=["kind", "state"])
    for kind, depth in work.depths().items():
        for state, rows in depth.items():
            items.add_metric([kind, state], rows)
    yield items
    oldest = GaugeMetricFamily(
        "tranche_work_oldest_due_seconds",
        "How long the oldest due row of a kind has waited; 0 when none is due.",
        labels=["kind"],
    )
    now = clock.now()
    with connection.cursor() as cursor:
        for one in work.kinds():
            cursor.execute(
                sql.SQL(
                    "SELECT coalesce(extract(epoch FROM %(now)s - min(item.run_after)), 0)"
                    " FROM {table} AS item WHERE {due}"
                ).format(table=one.table, due=one.due_condition()),
                {"now": now},
            )
            oldest.add_metric([one.name], float(cursor.fetchone()[0]))
    yield oldest


def _chain() -> Iterator[Metric]:
    halted = GaugeMetricFamily("tranche_network_halted", "Whether the network is halted.", labels=["network"])
    watched = GaugeMetricFamily(
        "tranche_network_watched_block", "Up to which block the chain was watched.", labels=["network"]
    )
    for network in networks_list():
        halted.add_metric([network.name], network.halted_at is not None)
        watched.add_metric([network.name], network.watched_block or 0)
    up = GaugeMetricFamily(
        "tranche_rpc_endpoint_up",
        "Whether an enabled endpoint's breaker is closed.",
        labels=["network", "endpoint"],
    )
    for endpoint in endpoints_list():
        up.add_metric([endpoint.network.name, endpoint.name], not rested([endpoint]))
    yield from (halted, watched, up)


def _venues() -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "tranche_venue_up", "Whether an enabled venue's breaker is closed.", labels=["network", "venue"]
    )
    for venue in venues_list():
        health = getattr(venue, "health", None)
        up.add_metric([venue.network.name, venue.name], health is None or health.open_until is None)
    yield up


def _registered() -> Iterator[Metric]:
    """What the apps registered with `apps.core.metrics`."""
    for gauge in metrics.gauges():
        family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
        for labels, value in gauge.read():
            family.add_metric(labels, value)
        yield family


def _invariants() -> Iterator[Metric]:
    """Nothing before the first run, so that an alert on absence means what it says."""
    try:
        kept = cache.get(_INVARIANTS_KEY)
    except redis.RedisError:
        return
    if kept is None:
        return
    seen = InvariantsSeen(**kept)
    yield GaugeMetricFamily("tranche_invariants_checked", "Invariants checked last.", value=seen.checked)
    yield GaugeMetricFamily("tranche_invariants_broken", "Invariants that did not hold.", value=seen.broken)
    yield GaugeMetricFamily(
        "tranche_invariants_checked_timestamp_seconds", "When they were checked.", value=seen.at
    )
