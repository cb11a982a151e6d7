"""How far behind the monitor is, per network, and telling once when it has stalled."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from apps.chain.models import Network
from apps.core import doorbell
from apps.deposits.models import Scan
from apps.deposits.scanning import SCAN_BELL, behind, patience, scans_ensure, second_behind
from apps.events.services import EventDraft, events_publish

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lag:
    """One network. `lag_blocks` are held and not read; `second_blocks` are final and not read a second time.

    `lag_seconds` counts from when everything up to a known head was read last, by PostgreSQL's clock.
    """

    network: Network
    head_block: int | None
    scanned_block: int | None
    lag_blocks: int
    second_blocks: int
    lag_seconds: float
    stalled: bool
    error: str

    @property
    def state(self) -> str:
        """running, stalled or halted."""
        return "halted" if self.network.halted_at is not None else "stalled" if self.stalled else "running"


def lags() -> list[Lag]:
    """Every network that is monitored, by name. Two queries."""
    found = []
    now = _database_now()
    for scan in Scan.objects.select_related("network").order_by("network__name"):
        network = scan.network
        seconds = max(0.0, (now - scan.scanned_at).total_seconds())
        found.append(
            Lag(
                network=network,
                head_block=network.watched_block,
                scanned_block=None if scan.next_block is None else scan.next_block - 1,
                lag_blocks=behind(scan, network),
                second_blocks=second_behind(scan, network),
                lag_seconds=round(seconds, 1),
                # A halt has its own alert, and an operator.
                stalled=network.halted_at is None and seconds > patience(network).total_seconds(),
                error=scan.last_error,
            )
        )
    return found


def _database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        at: datetime = cursor.fetchall()[0][0]
    return at


def monitor_check() -> list[Lag]:
    """See to it that every network is monitored, and tell of stalls that began or ended since the last check."""
    if scans_ensure():
        doorbell.ring(SCAN_BELL)
    found = lags()
    for lag in found:
        if lag.stalled:
            _tell(lag, "monitor.stalled")
        elif lag.network.halted_at is None:
            _tell(lag, "monitor.recovered")
    return found


def _tell(lag: Lag, topic: str) -> None:
    """Once per change: who wins the conditional UPDATE publishes, in the same transaction."""
    stalled = topic == "monitor.stalled"
    payload: dict[str, Any] = {
        "network": lag.network.name,
        "lag_blocks": lag.lag_blocks,
        "lag_seconds": lag.lag_seconds,
        "error": lag.error[:300],
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE deposits_scan SET stalled_at = CASE WHEN %(stalled)s THEN clock_timestamp() END"
            " WHERE network_id = %(network)s AND (stalled_at IS NULL) = %(stalled)s",
            {"stalled": stalled, "network": lag.network.pk},
        )
        if cursor.rowcount:
            events_publish([EventDraft(topic, "network", lag.network.pk, payload)])
            level = logging.ERROR if stalled else logging.WARNING
            logger.log(level, topic.replace(".", " "), extra=payload)
