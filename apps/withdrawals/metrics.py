"""Open withdrawals for Prometheus, counted in the database at each scrape: every process tells the same."""

from collections.abc import Iterator

from django.db import Error
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from apps.core import clock
from apps.withdrawals.selectors import open_counts

_LABELS = ["asset", "state", "wait_reason"]


class WithdrawalsCollector(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        count = GaugeMetricFamily(
            "tranche_withdrawals_open", "Withdrawals that are not over.", labels=_LABELS
        )
        age = GaugeMetricFamily(
            "tranche_withdrawals_oldest_seconds", "Age of the oldest of them.", labels=_LABELS
        )
        try:
            found = open_counts()
        except Error:
            # The other metrics of this process are worth having without the database.
            return
        now = clock.now()
        for row in found:
            labels = [row.asset, row.state, row.wait_reason]
            count.add_metric(labels, row.count)
            age.add_metric(labels, max(0.0, (now - row.oldest_at).total_seconds()))
        yield count
        yield age

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: asked at registration, when there is no database yet."""
        return iter(())


REGISTRY.register(WithdrawalsCollector())
