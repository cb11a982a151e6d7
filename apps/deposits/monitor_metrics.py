"""How far the deposit monitor is behind, per network."""

from collections.abc import Iterable

from apps.core.metrics import Sample, gauge
from apps.deposits.monitor import lags

_NETWORK = ("network",)


@gauge("tranche_monitor_lag_blocks", "Blocks that are held and were not read for deposits", labels=_NETWORK)
def lag_blocks() -> Iterable[Sample]:
    return [((lag.network.name,), lag.lag_blocks) for lag in lags()]


@gauge("tranche_monitor_second_lag_blocks", "Final blocks that were not read a second time", labels=_NETWORK)
def second_lag_blocks() -> Iterable[Sample]:
    return [((lag.network.name,), lag.second_blocks) for lag in lags()]


@gauge(
    "tranche_monitor_lag_seconds", "Seconds since everything up to the head had been read", labels=_NETWORK
)
def lag_seconds() -> Iterable[Sample]:
    return [((lag.network.name,), lag.lag_seconds) for lag in lags()]


@gauge(
    "tranche_monitor_stalled", "1 while that is too long ago and the network is not halted", labels=_NETWORK
)
def stalled() -> Iterable[Sample]:
    return [((lag.network.name,), lag.stalled) for lag in lags()]
