"""The Celery app. The reason for each setting stands beside it; the longer story in docs/decisions."""

import os

from celery import Celery
from django.conf import settings

from config import health

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

app = Celery("tranche", fixups=["config.connections:fixup"])
app.conf.update(
    broker_url=settings.REDIS_URL,
    # JSON only: a pickle in Redis would be code execution for whoever reaches Redis.
    task_serializer="json",
    accept_content=["json"],
    # Outcomes live in PostgreSQL rows; a result backend would be a second, weaker truth.
    task_ignore_result=True,
    result_backend=None,
    # A task is acknowledged when its work is done; a worker that dies mid-task hands it back.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    # Must stay below the visibility timeout, or Redis hands a running task to a second worker.
    task_time_limit=settings.CELERY_TASK_HARD_LIMIT_SECONDS,
    task_soft_time_limit=settings.CELERY_TASK_HARD_LIMIT_SECONDS - 30,
    # The three places that must agree: broker options, result backend options, and kombu's own option.
    visibility_timeout=settings.CELERY_VISIBILITY_TIMEOUT_SECONDS,
    broker_transport_options={
        "visibility_timeout": settings.CELERY_VISIBILITY_TIMEOUT_SECONDS,
        # Without socket timeouts a silent network partition blocks a worker for ever.
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "queue_order_strategy": "round_robin",
    },
    result_backend_transport_options={"visibility_timeout": settings.CELERY_VISIBILITY_TIMEOUT_SECONDS},
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Publishing from a web request must not hang when Redis is away: the row is committed, beat re-rings.
    task_publish_retry=False,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    # On SIGTERM: finish for 10 s, then hand back what is left.
    worker_soft_shutdown_timeout=10.0,
    worker_enable_soft_shutdown_on_idle=False,
    worker_max_tasks_per_child=2_000,
    worker_max_memory_per_child=280_000,  # KiB
    worker_hijack_root_logger=False,
    worker_send_task_events=True,
    task_send_sent_event=True,
    task_default_queue="default",
    enable_utc=True,
    timezone="UTC",
    beat_max_loop_interval=1,
)
app.autodiscover_tasks(["workers"], related_name="tasks")
health.connect()


@app.on_after_finalize.connect
def _schedule(sender: Celery, **_: object) -> None:
    """Late, because the table of queues is filled when the tasks are registered."""
    from workers.schedule import beat_schedule

    sender.conf.beat_schedule = beat_schedule()
