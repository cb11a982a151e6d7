"""What a record costs who writes it, that no writer waits for another, and how fast records are sealed and walked."""

import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from statistics import median
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.accounts.audit import audit_record
from apps.accounts.audit.checking import Walk, chain_walk
from apps.accounts.audit.sealing import records_seal
from apps.accounts.models import User
from apps.core.ids import uuid7

THREADS = 8
# What else a transaction does after its record: another statement or two on a busy day.
REST_SECONDS = 0.005
COST_GOAL_MS = 2.0
TIMES_GOAL = 3.0


def run(*, records: int, runs: int) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS bench_chain (number bigserial PRIMARY KEY, digest bytea)")
    people = [User.objects.create(email=f"bench-audit-{number}@example.org").pk for number in range(THREADS)]
    ways: dict[str, Callable[[UUID, int], None]] = {"none": _nothing, "ours": _record, "chained": _chained}
    alone: dict[str, list[float]] = {name: [] for name in ways}
    together: dict[str, list[float]] = {name: [] for name in ways}
    sealed, walked = [], []
    for _ in range(runs):
        for name, times in _paired(people[0], records, ways).items():
            alone[name].append(median(times))
        for name, write in ways.items():
            share = max(1, records // 20)
            seconds = _seconds(people, share, write)
            together[name].append(share * THREADS / seconds)
        sealed.append(_rate(lambda: sum(iter(records_seal, 0))))
        walked.append(_rate(_walk))
    cost = median(alone["ours"]) - median(alone["none"])
    faster = median(together["ours"]) / median(together["chained"])
    return [
        {
            "name": "audit, cost of a record in its transaction",
            "ours": round(median(alone["ours"]), 2),
            "baseline": round(median(alone["none"]), 2),
            "floor": None,
            "unit": "ms per transaction; baseline: the same without a record",
            "ratio": round(median(alone["ours"]) / median(alone["none"]), 2),
            "goal": f"at most {COST_GOAL_MS:g} ms more",
            "met": cost <= COST_GOAL_MS,
            "runs": {name: [round(one, 3) for one in values] for name, values in alone.items()},
        },
        {
            "name": f"audit, {THREADS} writers at once",
            "ours": round(median(together["ours"])),
            "baseline": round(median(together["chained"])),
            "floor": round(median(together["none"])),
            "unit": "transactions/s; baseline: chained under one lock; floor: no record at all",
            "ratio": round(faster, 2),
            "goal": f"at least {TIMES_GOAL:g} times a chain under one lock",
            "met": faster >= TIMES_GOAL,
            "runs": {name: [round(one) for one in values] for name, values in together.items()},
        },
        {
            "name": "audit, sealed and walked",
            "ours": round(median(sealed)),
            "baseline": None,
            "floor": round(median(walked)),
            "unit": "records/s sealed; floor: seals/s walked and compared",
            "ratio": None,
            "goal": None,
            "met": None,
            "runs": {"sealed": [round(one) for one in sealed], "walked": [round(one) for one in walked]},
        },
    ]


def _nothing(person: UUID, number: int) -> None:
    del person, number


def _record(person: UUID, number: int) -> None:
    audit_record(
        actor=person,
        action="bench.changed",
        target_type="user",
        target_id=person,
        before={"fee_tier": f"{number}", "units": 10**20},
        after={"fee_tier": f"{number + 1}", "units": 10**21},
    )


def _chained(person: UUID, number: int) -> None:
    """The other design: the end of the chain is the writer's until it commits."""
    _record(person, number)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('bench.chain'))")
        cursor.execute("SELECT digest FROM bench_chain ORDER BY number DESC LIMIT 1")
        row = cursor.fetchone()
        digest = sha256((bytes(row[0]) if row else b"") + uuid7().bytes).digest()
        cursor.execute("INSERT INTO bench_chain (digest) VALUES (%s)", [digest])


def _paired(
    person: UUID, count: int, ways: Mapping[str, Callable[[UUID, int], None]]
) -> dict[str, list[float]]:
    """Milliseconds of each transaction, the ways in turn, so that a busy moment meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(count):
        for name, write in ways.items():
            began = time.perf_counter()
            with transaction.atomic():
                User.objects.filter(pk=person).update(fee_tier=f"t{number}")
                write(person, number)
            found[name].append((time.perf_counter() - began) * 1_000)
    return found


def _seconds(people: list[UUID], count: int, write: Callable[[UUID, int], None]) -> float:
    start = threading.Barrier(len(people) + 1)

    def work(person: UUID) -> None:
        connection.ensure_connection()
        start.wait()
        for number in range(count):
            with transaction.atomic():
                User.objects.filter(pk=person).update(fee_tier=f"t{number}")
                write(person, number)
                time.sleep(REST_SECONDS)
        connection.close()

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def _rate(work: Callable[[], int]) -> float:
    began = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - began)


def _walk() -> int:
    walk = Walk()
    while chain_walk(walk):
        pass
    if walk.violations:
        raise RuntimeError(walk.violations[0])
    return walk.position
