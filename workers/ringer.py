"""How a doorbell is rung: one small message without content, on the queue that answers."""

from celery import current_app

from apps.core.api.request_ids import request_id_current
from workers.task import QUEUE_OF, REQUEST_ID_HEADER, RING_EXPIRES_SECONDS


def ring(name: str, after_seconds: float = 0.0) -> None:
    """Send the task `name`, to be heard after so many seconds; raises whatever the broker raises.

    The doorbell takes it from there. A worker keeps a later one in memory until its time, by its own clock.
    """
    request_id = request_id_current()
    current_app.send_task(
        name,
        queue=QUEUE_OF.get(name, "default"),
        countdown=after_seconds or None,
        expires=RING_EXPIRES_SECONDS,
        headers={REQUEST_ID_HEADER: request_id} if request_id else None,
        retry=False,
        ignore_result=True,
    )
