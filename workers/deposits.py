"""Money in: is it there, is it final, was it taken back, and collecting it."""

from apps.core import work
from apps.deposits import kinds
from apps.deposits.backfill import deposits_backfill
from apps.deposits.debts import debts_collect
from apps.deposits.monitor import monitor_check
from apps.deposits.services import deposits_ready, reorgs_follow
from apps.deposits.sweep_planning import sweeps_plan
from workers.task import task


@task("deposits.check", queue="chain")
def deposits_check() -> None:
    work.drain(kinds.CHECK)


@task("deposits.credit", queue="default")
def deposits_credit() -> None:
    work.drain(kinds.CREDIT)


@task("deposits.ready", queue="default")
def deposits_pull_forward() -> None:
    deposits_ready()


@task("deposits.reorgs", queue="default")
def deposits_reorgs() -> None:
    reorgs_follow()
    debts_collect()


@task("deposits.sweep_plan", queue="chain")
def sweeps_planned() -> None:
    sweeps_plan()


@task("deposits.sweep", queue="chain")
def sweeps_step() -> None:
    work.drain(kinds.SWEEP_WORK)


@task("deposits.scan", queue="chain")
def networks_scan() -> None:
    work.drain(kinds.SCAN)


@task("deposits.rescan", queue="chain")
def rescans_read() -> None:
    work.drain(kinds.RESCAN, budget_seconds=5)


@task("deposits.monitor", queue="default")
def monitor_checked() -> None:
    monitor_check()
    deposits_backfill()
