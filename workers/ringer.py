"""How a doorbell is rung: one small message without content, on the queue that answers."""

from celery import current_app

from apps.core.api.request_ids import request_id_current
from workers.task import QUEUE_OF, REQUEST_ID_HEADER, RING_EXPIRES_SECONDS


def ring(name: str) -> None:
    """Send the task `name`; raises whatever the broker raises, the doorbell takes it from there."""
    request_id = request_id_current()
    current_app.send_task(
        name,
        queue=QUEUE_OF.get(name, "default"),
        expires=RING_EXPIRES_SECONDS,
        headers={REQUEST_ID_HEADER: request_id} if request_id else None,
        retry=False,
        ignore_result=True,
    )
