"""What alerting looks at: collecting that is under way, and for how long."""

from collections.abc import Iterable

from django.db.models import Count, Min

from apps.core import clock
from apps.core.metrics import Sample, gauge
from apps.deposits.models import Sweep
from apps.deposits.sweep_planning import OPEN_STATES


@gauge("tranche_sweeps_open", "Sweeps under way", labels=("network", "state"))
def sweeps_open() -> Iterable[Sample]:
    rows = Sweep.objects.filter(state__in=OPEN_STATES).order_by().values_list("network__name", "state")
    return [((network, state), count) for network, state, count in rows.annotate(count=Count("pk"))]


@gauge("tranche_sweep_oldest_seconds", "Age of the oldest sweep under way", labels=("network",))
def sweep_oldest() -> Iterable[Sample]:
    now = clock.now()
    rows = Sweep.objects.filter(state__in=OPEN_STATES).order_by().values_list("network__name")
    return [
        ((network,), (now - since).total_seconds())
        for network, since in rows.annotate(since=Min("created_at"))
    ]
