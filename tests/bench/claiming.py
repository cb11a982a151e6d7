"""Claiming does not slow with idle plans, and a worker that opens and reserves many stays small."""

import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from django.db import connection

from apps.accounts.models import User
from apps.core import bulk, clock, work
from apps.core.ids import uuid7_many
from apps.plans import kinds
from apps.plans.models import Plan, Slot
from apps.providers.models import Market
from tests.support.stack import Stack, wait_until

SLOWER_GOAL = 1.3
MEMORY_GOAL_MB = 300


def run(stack: Stack, *, idle: int, due: int, runs: int) -> list[dict[str, Any]]:
    """Seconds to claim and open `due` plans, alone and among `idle` others."""
    owner = User.objects.create(email="bench-claiming@example.org")
    alone = [_open(owner, due) for _ in range(runs)]
    plans_make(owner, idle, due=False)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE plans_plan")
    among = [_open(owner, due) for _ in range(runs)]
    ratio = median(among) / median(alone)
    return [
        {
            "name": f"claiming {due:,} due plans among {idle:,} idle ones",
            "ours": round(median(among), 3),
            "baseline": round(median(alone), 3),
            "floor": None,
            "unit": "s",
            "ratio": round(ratio, 2),
            "goal": f"at most {SLOWER_GOAL:g} times the time without idle plans, by the partial index",
            "met": ratio <= SLOWER_GOAL and _uses_index(),
            "runs": {"ours": [round(one, 3) for one in among], "baseline": [round(one, 3) for one in alone]},
        }
    ]


def memory(stack: Stack, *, due: int) -> list[dict[str, Any]]:
    """The peak of the real worker's processes after they opened and judged `due` plans (none is funded)."""
    owner = User.objects.create(email="bench-memory@example.org")
    plans_make(owner, due, due=True)
    mine = Slot.objects.filter(owner=owner, closed_at__isnull=False)
    wait_until(lambda: mine.count() == due, seconds=120, what="all slots judged")
    peak = max(_peak_mb(pid) for pid in _family(stack.child("worker").pid))
    return [
        {
            "name": f"worker memory after {due:,} due plans",
            "ours": round(peak),
            "baseline": None,
            "floor": None,
            "unit": "MB, peak of the largest process",
            "ratio": None,
            "goal": f"under {MEMORY_GOAL_MB} MB",
            "met": peak < MEMORY_GOAL_MB,
            "runs": {"ours": [round(peak)]},
        }
    ]


def plans_make(owner: User, count: int, *, due: bool) -> None:
    now = clock.now()
    at = now if due else now + timedelta(days=200)
    market = Market.objects.order_by("created_at", "id")[0]
    same: dict[str, Any] = {
        "owner_id": owner.pk,
        "market_id": market.pk,
        "name": "bench",
        "state": "active",
        "amount_units": 10_000_000,
        "schedule_kind": "hourly",
        "interval": 8_784,
        "weekdays": [],
        "cron": "",
        "zone": "UTC",
        "start_at": at,
        "next_number": 1,
        "max_slippage_bps": 100,
        "missed_policy": "run_once",
        "grace_seconds": 86_400,
        "run_all_limit": 1,
        "run_after": at,
        "created_at": now,
    }
    bulk.insert(
        "plans_plan",
        {"id": uuid7_many(count, now), **{name: [value] * count for name, value in same.items()}},
    )


def _open(owner: User, due: int) -> float:
    plans_make(owner, due, due=True)
    started = time.perf_counter()
    opened = work.drain(kinds.OPEN, budget_seconds=60)
    took = time.perf_counter() - started
    if opened != due:
        raise RuntimeError(f"opened {opened} of {due}: somebody else opens plans")
    # So that they are not this benchmark's any more.
    Slot.objects.filter(owner=owner, state="open").update(
        state="skipped", reason="plan_cancelled", closed_at=clock.now()
    )
    Plan.objects.filter(owner=owner, next_number__gt=1).update(state="cancelled")
    return took


def _uses_index() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN SELECT id FROM plans_plan AS item WHERE item.state IN ('active') AND item.buried_at IS NULL"
            " AND item.run_after <= now() AND (item.leased_until IS NULL OR item.leased_until < clock_timestamp())"
            " ORDER BY item.run_after, item.id LIMIT 2500 FOR UPDATE SKIP LOCKED"
        )
        return any("plans_plan_due" in row[0] for row in cursor)


def _family(pid: int) -> list[int]:
    """A process and its children: the pool of a Celery worker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
