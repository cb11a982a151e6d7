"""What alerting looks at: pauses, and whether books and chain agree."""

from collections.abc import Iterable

from django.db.models import Count

from apps.core import clock
from apps.core.metrics import Sample, gauge
from apps.treasury.models import Pause, Verdict
from apps.treasury.reserves import reserves_list


@gauge("tranche_pauses_active", "Kill switches that are on", labels=("activity", "source"))
def pauses_active() -> Iterable[Sample]:
    rows = Pause.objects.filter(lifted_at__isnull=True).order_by().values_list("activity", "source")
    return [((activity, source), count) for activity, source, count in rows.annotate(count=Count("pk"))]


@gauge(
    "tranche_reserves_diverged", "1 while books and chain differ in two looks", labels=("network", "asset")
)
def reserves_diverged() -> Iterable[Sample]:
    return [
        ((row.network.name, row.asset.code), float(row.verdict == Verdict.DIVERGED))
        for row in reserves_list()
    ]


@gauge("tranche_reserves_age_seconds", "Since the latest look", labels=("network", "asset"))
def reserves_age() -> Iterable[Sample]:
    now = clock.now()
    return [
        ((row.network.name, row.asset.code), (now - row.looked_at).total_seconds()) for row in reserves_list()
    ]
