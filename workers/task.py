"""The one decorator behind every task: a stable name, its queue, logging context, nothing else.

A task is a doorbell's answer: it takes no business data, calls one service, and returns nothing. Retries, leases
and attempts live on the rows (`apps.core.work`), never in Celery.
"""

from collections.abc import Callable
from functools import wraps

import structlog
from celery import shared_task

# Which queue answers which bell; the ringer and the beat schedule read it.
QUEUE_OF: dict[str, str] = {}

# A ring that nobody heard within this time is worthless: the tick has rung again since. Without it, an evening
# without workers would leave thousands of messages behind.
RING_EXPIRES_SECONDS = 30


def task(name: str, *, queue: str) -> Callable[[Callable[[], object]], Callable[[], None]]:
    """Register a function without arguments as the task `name` on `queue`."""
    QUEUE_OF[name] = queue

    def decorate(function: Callable[[], object]) -> Callable[[], None]:
        @wraps(function)
        def run() -> None:
            with structlog.contextvars.bound_contextvars(task=name):
                function()

        registered: Callable[[], None] = shared_task(name=name, ignore_result=True)(run)
        return registered

    return decorate
