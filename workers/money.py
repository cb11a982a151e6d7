"""Prices, and the books that follow the chain."""

from apps.providers.services import price_snapshots_refresh
from apps.treasury.reserves import reserves_check
from apps.treasury.services import gas_book
from workers.task import task


@task("providers.snapshots", queue="default")
def snapshots_refresh() -> None:
    price_snapshots_refresh()


@task("treasury.gas", queue="default")
def gas_booked() -> None:
    gas_book()


@task("treasury.reserves", queue="chain")
def reserves_checked() -> None:
    reserves_check()
