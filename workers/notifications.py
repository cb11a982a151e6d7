"""Mails about what happened: the reader of events, digests, and the daily look at funds."""

from time import monotonic

from apps.core import doorbell, work
from apps.notifications import kinds
from apps.notifications.funds import funds_check
from apps.notifications.reading import CHUNK, notifications_read
from workers.task import task

_BUDGET_SECONDS = 10.0


@task("notifications.read", queue="mail")
def read() -> None:
    started = monotonic()
    while notifications_read() == CHUNK:
        if monotonic() - started > _BUDGET_SECONDS:
            doorbell.ring("notifications.read")
            return


@task("notifications.digest", queue="mail")
def digest() -> None:
    work.drain(kinds.DIGEST_WORK)


@task("notifications.funds", queue="mail")
def funds() -> None:
    started = monotonic()
    while funds_check() and monotonic() - started < _BUDGET_SECONDS:
        pass
