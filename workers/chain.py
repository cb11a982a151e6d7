"""Outbound transactions. Signing has a queue, and so a process, of its own: only that one holds the keys' key."""

from celery import signals

from apps.chain import kinds
from apps.chain.client import libraries_load
from apps.core import work
from workers.task import task


@signals.worker_init.connect
def _libraries_load(**_: object) -> None:
    libraries_load()


@task("chain.sign", queue="signing")
def transactions_sign() -> None:
    work.drain(kinds.SIGN_WORK)


@task("chain.send", queue="chain")
def transactions_send() -> None:
    work.drain(kinds.SEND_WORK)


@task("chain.watch", queue="chain")
def networks_watch() -> None:
    work.drain(kinds.WATCH_WORK)


@task("chain.recheck", queue="chain")
def transactions_recheck() -> None:
    work.drain(kinds.RECHECK_WORK)
