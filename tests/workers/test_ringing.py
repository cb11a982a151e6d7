"""From a commit to a message on the queue, on the real broker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import structlog
from celery import current_app
from django.conf import settings
from django.db import connection, transaction

from apps.core import clock, doorbell, work
from apps.core.api.request_ids import request_id_bind
from apps.core.models import WorkProbe
from config.roles import QUEUES, SIGNING_QUEUE
from workers import platform
from workers.schedule import beat_schedule
from workers.task import QUEUE_OF, task

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broker() -> Iterator[Any]:
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()
    structlog.contextvars.clear_contextvars()


def messages(broker: Any, queue: str) -> list[dict[str, Any]]:
    return [json.loads(raw)["headers"] for raw in broker.lrange(queue, 0, -1)]


def test_a_ring_arrives_after_the_commit_and_only_then(broker: Any) -> None:
    with transaction.atomic():
        doorbell.ring("plans.open")
        assert messages(broker, "plans") == []

    assert [headers["task"] for headers in messages(broker, "plans")] == ["plans.open"]


def test_a_ring_may_be_meant_for_later(broker: Any) -> None:
    before = clock.now()
    doorbell.ring("chain.watch", after_seconds=0.25)

    (headers,) = messages(broker, "chain")
    heard_at = datetime.fromisoformat(headers["eta"])
    assert timedelta(seconds=0.25) <= heard_at - before < timedelta(seconds=5)


def test_a_rolled_back_change_rings_nobody(broker: Any) -> None:
    with transaction.atomic():
        doorbell.ring("plans.open")
        transaction.set_rollback(True)

    assert messages(broker, "plans") == []


def test_the_ring_carries_the_requests_id_and_the_task_logs_under_it(broker: Any) -> None:
    seen: list[dict[str, Any]] = []

    @task("test.look", queue="default")
    def look() -> None:
        seen.append(structlog.contextvars.get_contextvars())

    request_id_bind("req-0123456789")
    doorbell.ring("test.look")
    (headers,) = messages(broker, "default")
    structlog.contextvars.clear_contextvars()
    registered: Any = current_app.tasks["test.look"]
    registered.push_request(**headers)
    try:
        registered.run()
    finally:
        registered.pop_request()
        current_app.tasks.pop("test.look")
        QUEUE_OF.pop("test.look")

    assert headers["request_id"] == "req-0123456789"
    assert seen == [{"task": "test.look", "request_id": "req-0123456789"}]


_RING_WITHOUT_BROKER = """
import django; django.setup()
from django.db import connection, transaction
from apps.core import clock, doorbell, work
from apps.core.models import WorkProbe
with transaction.atomic():
    WorkProbe.objects.create()
    doorbell.ring("core.probe")
print(WorkProbe.objects.count())
"""


def test_a_broker_that_is_away_costs_the_caller_nothing() -> None:
    """The row is committed; the ring is lost, said so, and made good by the tick."""
    params = connection.get_connection_params()
    database = f"postgresql://{params['user']}:{params['password']}@{params['host']}:{params['port']}/{params['dbname']}"

    done = subprocess.run(
        [sys.executable, "-c", _RING_WITHOUT_BROKER],
        env={**os.environ, "DATABASE_URL": database, "REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.strip() == "1"
    assert "doorbell not rung" in done.stderr


def test_the_tick_rings_what_is_due_and_nothing_else(broker: Any) -> None:
    platform.tick()
    assert messages(broker, "default") == []

    WorkProbe.objects.create()
    platform.tick()

    assert [headers["task"] for headers in messages(broker, "default")] == ["core.probe"]


def test_without_the_tick_a_ring_lost_with_redis_is_lost_for_good_and_with_it_comes_again(
    broker: Any,
) -> None:
    with transaction.atomic():
        probe = WorkProbe.objects.create()
        doorbell.ring("core.probe")
    broker.flushdb()

    # Nothing else rings: the row is due, and nobody knows.
    assert work.due_names() == ["core.probe"]
    assert messages(broker, "default") == []

    platform.tick()
    (headers,) = messages(broker, "default")
    registered: Any = current_app.tasks[headers["task"]]
    registered.run()
    probe.refresh_from_db()
    assert probe.state == "closed"


def test_no_message_carries_arguments(broker: Any) -> None:
    for name in QUEUE_OF:
        doorbell.ring(name)

    sent = [headers for queue in (*QUEUES, SIGNING_QUEUE) for headers in messages(broker, queue)]
    assert sorted(headers["task"] for headers in sent) == sorted(QUEUE_OF)
    assert {(headers["argsrepr"], headers["kwargsrepr"]) for headers in sent} == {("()", "{}")}


def test_every_recurring_task_expires_before_it_piles_up() -> None:
    left = 0.0
    for entry in beat_schedule().values():
        left += entry["options"]["expires"] / entry["schedule"].total_seconds()
        assert entry["options"]["queue"] == QUEUE_OF[entry["task"]]
    # Of a night without workers: what a worker takes in some seconds.
    assert left < 4_000


def test_a_worker_whose_clock_is_minutes_ahead_hears_every_bell(broker: Any) -> None:
    doorbell.ring("work.tick")
    schedule = beat_schedule()
    current_app.send_task("work.tick", **schedule["work.tick"]["options"])
    rung = messages(broker, QUEUE_OF["work.tick"])
    assert len(rung) == 2

    ahead = datetime.now(UTC) + timedelta(minutes=9)

    # Celery drops what expired by the worker's clock (`celery.worker.request.Request.maybe_expire`).
    assert [headers["task"] for headers in rung if datetime.fromisoformat(headers["expires"]) < ahead] == []
    assert {entry["options"]["expires"] for entry in schedule.values()} == {600}
