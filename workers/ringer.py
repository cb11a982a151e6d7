"""How a doorbell is rung: one small message without content, on the queue that answers."""

from celery import current_app

from workers.task import QUEUE_OF, RING_EXPIRES_SECONDS


def ring(name: str) -> None:
    """Send the task `name`; raises whatever the broker raises, the doorbell takes it from there."""
    current_app.send_task(
        name,
        queue=QUEUE_OF.get(name, "default"),
        expires=RING_EXPIRES_SECONDS,
        retry=False,
        ignore_result=True,
    )
