"""Durable no-op items through the engine, against one Celery task per item, with the same two pool processes."""

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import redis
from celery import current_app
from django.conf import settings
from django.db import transaction

from apps.core import bulk, clock, doorbell
from apps.core.ids import uuid7_many
from apps.core.models import WorkProbe
from apps.sandbox.runtime.processes import Child
from tests.bench.classic import QUEUE
from tests.support.stack import Stack, wait_until

GOAL = 10.0


def run(stack: Stack, *, items: int, runs: int) -> list[dict[str, Any]]:
    """Items a second: ours from the commit to the last one closed, the baseline from the first one published to the
    last one acknowledged; both sides interleaved."""
    baseline = Child(
        name="bench",
        argv=[
            sys.executable, "-m", "celery", "--app", "tests.bench.classic", "--quiet", "worker", "--without-mingle",
            "--queues", QUEUE, "--concurrency", "2", "--loglevel", "ERROR", "--hostname", "bench@%h",
        ],
        log=stack.directory / "logs" / "bench.log",
        environment=stack.environment(),
        directory=Path(settings.BASE_DIR),
    )  # fmt: skip
    broker = redis.Redis.from_url(settings.REDIS_URL)
    baseline.start()
    try:
        _per_item(broker, 200)
        _engine(200)
        ours, theirs = [], []
        for _ in range(runs):
            ours.append(items / _engine(items))
            theirs.append(items / _per_item(broker, items))
    finally:
        baseline.stop()
        broker.close()
    ratio = median(ours) / median(theirs)
    return [
        {
            "name": "engine: durable no-op items against one Celery task each",
            "ours": round(median(ours)),
            "baseline": round(median(theirs)),
            "floor": None,
            "unit": "items/s",
            "ratio": round(ratio, 2),
            "goal": f"at least {GOAL:g} times",
            "met": ratio >= GOAL,
            "runs": {"ours": [round(one) for one in ours], "baseline": [round(one) for one in theirs]},
        }
    ]


def _engine(items: int) -> float:
    """Seconds from the commit of the items to the last one closed; a look every 30 ms, on the partial index."""
    now = clock.now()
    with transaction.atomic():
        bulk.insert(
            "core_workprobe",
            {
                "id": uuid7_many(items, now),
                "state": ["open"] * items,
                "passes": [0] * items,
                "run_after": [now] * items,
                "created_at": [now] * items,
            },
        )
        # One ring per pool process; either would do, the second only wakes the second process at once.
        doorbell.ring("core.probe")
        doorbell.ring("core.probe")
        started = time.perf_counter()
    wait_until(lambda: not WorkProbe.objects.filter(state="open").exists(), seconds=120, what="items closed")
    return time.perf_counter() - started


def _per_item(broker: Any, items: int) -> float:
    started = time.perf_counter()
    with current_app.producer_pool.acquire(block=True) as producer:
        for _ in range(items):
            current_app.send_task("bench.noop", queue=QUEUE, producer=producer)
    # A task leaves `unacked` when it was acknowledged: late, after it ran.
    wait_until(
        lambda: not broker.llen(QUEUE) and not broker.hlen("unacked"), seconds=300, what="tasks consumed"
    )
    return time.perf_counter() - started
