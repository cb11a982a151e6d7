"""The tasks of the baselines: one Celery task per item, with the platform's own Celery settings."""

from config.celery import app

QUEUE = "bench"


@app.task(name="bench.noop")
def noop() -> None:
    """As little as a task can do: the baseline is given no work to be slow at."""


@app.task(name="bench.buy")
def buy(plan_id: str) -> None:
    """One plan, bought from its lock to its booking (`oneplan`)."""
    from tests.bench import oneplan  # the models are there only once Celery has set Django up

    oneplan.buy(plan_id)
