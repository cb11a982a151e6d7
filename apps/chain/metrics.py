"""Gauges of what we sent: who cannot pay for it, and what a fork has called into question."""

from collections.abc import Iterable

from django.db.models import Count

from apps.chain.domain import OUT_OF_GAS, TransactionState
from apps.chain.models import OutboundTransaction, Recheck, RecheckState
from apps.core.metrics import Sample, gauge


@gauge(
    "tranche_wallet_out_of_gas",
    "Signed transactions that nodes refuse because their wallet cannot pay for gas",
    labels=("network", "wallet"),
)
def out_of_gas() -> Iterable[Sample]:
    rows = OutboundTransaction.objects.filter(
        state=TransactionState.SIGNED, buried_at__isnull=True, reason=OUT_OF_GAS
    ).order_by()
    for network, wallet, count in rows.values_list("network__name", "wallet__address").annotate(Count("id")):
        yield (network, wallet), count


@gauge(
    "tranche_rechecks",
    "Final transactions that a fork may have taken back: looked for, or to be decided",
    labels=("network", "state"),
)
def rechecks() -> Iterable[Sample]:
    rows = Recheck.objects.exclude(state=RecheckState.CLOSED).order_by()
    for network, state, count in rows.values_list("network__name", "state").annotate(Count("id")):
        yield (network, state), count
