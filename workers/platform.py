"""What keeps the platform itself going: the tick that re-rings, partitions, housekeeping, invariants."""

import structlog

from apps.accounts.signin.services import signin_purge
from apps.accounts.tokens.services import sessions_purge
from apps.core import doorbell, partitions, probe, work
from apps.core.api.idempotency import idempotency_keys_purge
from apps.core.api.limits import rate_windows_purge
from apps.operations import metrics
from workers.task import task

logger = structlog.get_logger(__name__)


@task("work.tick", queue="default")
def tick() -> None:
    """Ring every kind that has due rows: what makes a lost message cost only seconds."""
    for name in work.due_names():
        doorbell.ring(name)


@task("core.probe", queue="default")
def probes_drain() -> None:
    work.drain(probe.PROBE)


@task("core.partitions", queue="default")
def partitions_ensure() -> None:
    created = partitions.ensure()
    if created:
        logger.info("partitions created", partitions=created)
    stray = partitions.default_rows()
    if stray:
        logger.error("rows in default partitions", tables=stray)


@task("core.idempotency_purge", queue="background")
def idempotency_purge() -> None:
    """Expired keys, a limited number at a time; the next run goes on. With them the limits' old windows."""
    idempotency_keys_purge()
    rate_windows_purge()


@task("accounts.signin_purge", queue="background")
def signins_purge() -> None:
    """What signing in left behind and is over, a limited number of rows at a time."""
    signin_purge()


@task("accounts.sessions_purge", queue="background")
def tokens_purge() -> None:
    """Expired refresh tokens and sessions that ended long ago, a limited number at a time."""
    sessions_purge()


@task("operations.invariants", queue="background")
def invariants_check() -> None:
    """Every invariant, in production too; a violation is an error log that alerting can match."""
    for verdict in metrics.invariants_check():
        logger.error("invariant violated", invariant=verdict.name, violations=verdict.violations[:5])
