"""The baseline of the engine's benchmark: one Celery task per item, with the platform's own Celery settings."""

from config.celery import app

QUEUE = "bench"


@app.task(name="bench.noop")
def noop() -> None:
    """As little as a task can do: the baseline is given no work to be slow at."""
