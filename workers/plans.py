"""The main job: one task per step. A ring says that some step has work; it carries nothing.

The first three steps take turns chunk by chunk, whichever of their bells rings, and the step nearest to the swap goes
first: while the swap of one market waits for its blocks the slots of the next are opened and reserved. Pricing and
settling drain what is due.
"""

from apps.core import work
from apps.plans import kinds
from apps.plans.steps.batching import markets_gathered
from workers.task import task


@task("plans.open", queue="plans")
def slots_open() -> None:
    _towards_swaps()


@task("plans.reserve", queue="plans")
def slots_reserve() -> None:
    _towards_swaps()


@task("plans.batch", queue="plans")
def slots_batch() -> None:
    _towards_swaps()


def _towards_swaps() -> None:
    markets = markets_gathered()
    if markets and work.drain(kinds.BATCH, groups=markets):
        return
    if not work.drain_chunk(kinds.RESERVE):
        work.drain_chunk(kinds.OPEN)


@task("plans.price", queue="chain")
def batches_price() -> None:
    work.drain(kinds.PRICE)


@task("plans.settle", queue="plans")
def batches_settle() -> None:
    work.drain(kinds.SETTLE)
