"""Workers keep their connection to the database from task to task, and get a new one when it is gone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection

from apps.core import doorbell
from apps.core.models import WorkProbe
from tests.workers.test_lost_rings import Roles, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]


@pytest.fixture
def roles(tmp_path: Path) -> Iterator[Roles]:
    client: Any = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    made = Roles(tmp_path, settings.REDIS_URL)
    made.environment["SERVICE_NAME"] = "kept-worker"
    yield made
    for process in list(made.running):
        made.kill(process)
    client.flushdb()
    client.close()


def backends() -> list[int]:
    """The server's processes for the worker's connections."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'kept-worker' ORDER BY pid")
        return [row[0] for row in cursor.fetchall()]


def task_done() -> list[int]:
    """Have the worker do something, and see by which connections it is there then."""
    WorkProbe.objects.create()
    doorbell.ring("core.probe")
    assert wait_until(lambda: not WorkProbe.objects.filter(state="open").exists())
    return backends()


def test_a_worker_keeps_its_connection_from_task_to_task(roles: Roles) -> None:
    roles.start("worker", "worker")
    first = task_done()
    assert len(first) == 1

    assert [task_done() for _ in range(5)] == [first] * 5

    # and when the server ends it between two tasks, the next one has another
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", first)
    assert wait_until(lambda: not backends())
    again = task_done()
    assert len(again) == 1
    assert again != first
