"""Slots that are reserved while others of the same moment are not yet: they wait for each other, for a while."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from psycopg import sql

from apps.core import clock, doorbell, work
from apps.plans import kinds
from apps.plans.models import Batch, Plan, Slot
from apps.plans.steps import batching
from apps.plans.steps.batching import markets_gathered
from tests.plans.support import Platform
from workers import plans
from workers.plans import slots_batch

pytestmark = pytest.mark.django_db(transaction=True)


def _one(kind: work.Work[Any]) -> None:
    """One row of a step."""
    single = replace(kind, chunk=1)
    work._work_on(work.claim_due(single))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that on a busy machine no slot has waited long enough before the test has looked."""
    monkeypatch.setattr(batching, "GATHER_SECONDS", 600.0)


@pytest.fixture
def half_reserved(platform: Platform) -> Plan:
    for _ in range(2):
        plan = platform.plan(platform.person(usdc=1_000))
    work.drain(kinds.OPEN)
    _one(kinds.RESERVE)
    assert sorted(Slot.objects.values_list("state", flat=True)) == ["open", "reserved"]
    return plan


def test_a_batch_waits_for_slots_that_are_being_reserved(half_reserved: Plan) -> None:
    assert markets_gathered() == []

    work.drain(kinds.RESERVE)

    assert markets_gathered() == [half_reserved.market_id]
    slots_batch()
    assert Batch.objects.get().slot_count == 2


def test_a_batch_waits_for_plans_that_are_being_opened(platform: Platform) -> None:
    for _ in range(2):
        plan = platform.plan(platform.person(usdc=1_000))
    _one(kinds.OPEN)
    work.drain(kinds.RESERVE)
    assert markets_gathered() == []
    # But not for one that failed and has its next try later.
    Plan.objects.filter(slots=None).update(lease_token=None, leased_until=Now() + timedelta(minutes=1))

    assert markets_gathered() == [plan.market_id]


def test_a_market_does_not_wait_for_another(half_reserved: Plan, platform: Platform) -> None:
    other = platform.plan(platform.person(usdc=1_000), buy="WBTC")
    work.drain(kinds.OPEN)
    work.drain(kinds.RESERVE, groups=[other.market_id])

    assert markets_gathered() == [other.market_id]
    work.drain(kinds.BATCH, groups=markets_gathered())
    assert Batch.objects.get().market_id == other.market_id


def test_a_reserved_slot_does_not_wait_for_ever(half_reserved: Plan) -> None:
    waited = timedelta(seconds=batching.GATHER_SECONDS + 0.1)
    Slot.objects.filter(state="reserved").update(updated_at=Now() - waited)

    assert markets_gathered() == [half_reserved.market_id]


@pytest.mark.parametrize("change", [{"buried_at": Now()}, {"run_after": Now() + timedelta(minutes=1)}])
def test_a_slot_that_will_not_be_reserved_now_is_not_waited_for(
    half_reserved: Plan, change: dict[str, object]
) -> None:
    Slot.objects.filter(state="open").update(**change)

    assert markets_gathered() == [half_reserved.market_id]


def test_a_ring_is_answered_by_the_step_nearest_to_the_swap(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given plans of two markets due at the same instant, and chunks of one market's size
    now = clock.now()
    for buy in ("WETH", "WBTC", "WETH", "WBTC"):
        platform.plan(platform.person(usdc=1_000), buy=buy, run_after=now, start_at=now)
    for name in ("OPEN", "RESERVE"):
        monkeypatch.setattr(kinds, name, replace(getattr(kinds, name), chunk=2))
    rung: list[str] = []
    monkeypatch.setattr(doorbell, "_ringer", lambda name, _: rung.append(name))
    seen = []
    # when whichever bell rings, time and again
    for _ in range(6):
        plans.slots_open()
        seen.append((Batch.objects.count(), *sorted(Slot.objects.values_list("state", flat=True))))
    # then the first market is on its way before the second is looked at
    assert seen == [
        (0, "open", "open"),
        (0, "reserved", "reserved"),
        (1, "batched", "batched"),
        (1, "batched", "batched", "open", "open"),
        (1, "batched", "batched", "reserved", "reserved"),
        (2, "batched", "batched", "batched", "batched"),
    ]
    first, second = Batch.objects.order_by("id")
    assert (first.slot_count, second.slot_count) == (2, 2)
    # and each full chunk called for somebody who takes the next, besides what the steps ring for
    assert rung == ["plans.open", "plans.reserve", "plans.reserve", "plans.batch", "plans.price"] * 2


@pytest.mark.parametrize("kind", [kinds.OPEN, kinds.RESERVE, kinds.BATCH], ids=lambda kind: kind.name)
def test_what_is_due_is_found_in_order_by_its_index(kind: work.Work[Any]) -> None:
    """A partial index serves only who asks within its condition, and its order only who wants that one."""
    query = sql.SQL(
        "EXPLAIN SELECT item.id FROM {table} AS item WHERE {due} ORDER BY {order} LIMIT 10"
    ).format(table=kind.table, due=kind.due_condition(), order=kind.order())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(query, {"now": clock.now()})
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert f"Index Scan using {kind.model._meta.db_table}_due_by_market" in plan
    assert "Sort" not in plan
