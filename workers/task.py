"""The one decorator behind every task: a stable name, its queue, logging context, nothing else.

A task is a doorbell's answer: it takes no business data, calls one service, and returns nothing. Retries, leases
and attempts live on the rows (`apps.core.work`), never in Celery.
"""

from collections.abc import Callable
from typing import Any

import structlog
from celery import shared_task
from django.db import connection

# Which queue answers which bell; the ringer and the beat schedule read it.
QUEUE_OF: dict[str, str] = {}

# A bell that nobody heard within this time is worthless: the tick has rung again since. Without it, an evening
# without workers would leave a hundred thousand messages behind. Not shorter: Celery stamps it by the sender's clock
# and reads it by the worker's, and a worker whose clock is ahead by more than this hears nothing at all.
RING_EXPIRES_SECONDS = 600

# The message header that carries the id of the request (or command) that rang.
REQUEST_ID_HEADER = "request_id"


def task(name: str, *, queue: str) -> Callable[[Callable[[], object]], Callable[[], None]]:
    """Register a function without arguments as the task `name` on `queue`.

    Its log lines carry the task's name and, when a web request rang, that request's id.
    """
    QUEUE_OF[name] = queue

    def decorate(function: Callable[[], object]) -> Callable[[], None]:
        def run(self: Any) -> None:
            context = {"task": name}
            rung_by = getattr(self.request, REQUEST_ID_HEADER, None)
            if rung_by:
                context[REQUEST_ID_HEADER] = str(rung_by)
            with structlog.contextvars.bound_contextvars(**context):
                # A new connection sets the clock right, before anything asks what time it is.
                connection.ensure_connection()
                function()

        run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
        registered: Callable[[], None] = shared_task(name=name, bind=True, ignore_result=True)(run)
        return registered

    return decorate
