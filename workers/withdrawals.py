"""Withdrawals: one task per step, each drains its kind of work."""

from apps.core import work
from apps.withdrawals import kinds
from workers.task import task


@task("withdrawals.check", queue="chain")
def withdrawals_check() -> None:
    work.drain(kinds.CHECK_WORK)


@task("withdrawals.send", queue="chain")
def withdrawals_send() -> None:
    work.drain(kinds.SEND_WORK)


@task("withdrawals.settle", queue="default")
def withdrawals_settle() -> None:
    work.drain(kinds.SETTLE_WORK)
