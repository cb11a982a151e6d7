"""The main job: one task per step, each drains its kind of work."""

from apps.core import work
from apps.plans import kinds
from apps.plans.steps.batching import slots_gathering
from workers.task import task


@task("plans.open", queue="plans")
def slots_open() -> None:
    work.drain(kinds.OPEN)


@task("plans.reserve", queue="plans")
def slots_reserve() -> None:
    work.drain(kinds.RESERVE)


@task("plans.batch", queue="plans")
def slots_batch() -> None:
    if not slots_gathering():
        work.drain(kinds.BATCH)


@task("plans.price", queue="chain")
def batches_price() -> None:
    work.drain(kinds.PRICE)


@task("plans.settle", queue="plans")
def batches_settle() -> None:
    work.drain(kinds.SETTLE)
