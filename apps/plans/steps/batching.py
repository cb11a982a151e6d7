"""Step 3: batch. Reserved slots of one market become one swap, so that gas and time are paid once for all."""

from collections import defaultdict
from uuid import UUID

from apps.core import bulk, clock, doorbell, failpoints, work
from apps.core.ids import uuid7
from apps.plans.models import Batch, Slot, SlotState
from apps.plans.steps.outcomes import closure_for_plan, plans_stopped_locked, slots_close
from apps.providers.models import Market


def slots_batch(slots: list[Slot]) -> None:
    """Put locked reserved slots into new batches, one per market and size limit; rings the price step."""
    stopped = plans_stopped_locked({slot.plan_id for slot in slots})
    closures = [
        closure
        for slot in slots
        if slot.plan_id in stopped and (closure := closure_for_plan(slot, stopped[slot.plan_id]))
    ]
    closed = {closure.slot.pk for closure in closures}
    by_market: dict[UUID, list[Slot]] = defaultdict(list)
    for slot in slots:
        if slot.pk not in closed:
            by_market[slot.market_id].append(slot)
    sizes = dict(Market.objects.filter(pk__in=by_market).values_list("pk", "max_batch_slots"))
    now = clock.now()
    batches: list[Batch] = []
    members: list[tuple[UUID, UUID]] = []
    for market_id, waiting in by_market.items():
        for start in range(0, len(waiting), sizes[market_id]):
            part = waiting[start : start + sizes[market_id]]
            batch = Batch(
                id=uuid7(now),
                market_id=market_id,
                slot_count=len(part),
                amount_in_units=sum(slot.swap_units or 0 for slot in part),
                run_after=now,
            )
            batches.append(batch)
            members.extend((slot.pk, batch.pk) for slot in part)
    Batch.objects.bulk_create(batches)
    failpoints.reach("plans.batch.created")
    bulk.update(
        "plans_slot",
        [slot_id for slot_id, _ in members],
        {"batch_id": ("uuid", [batch_id for _, batch_id in members])},
        constants={"state": SlotState.BATCHED.value},
        also=work.STEPPED,
    )
    slots_close(closures, stopped)
    # One ring each: what is priced is mostly waited for, and two processes wait side by side.
    for _ in batches:
        doorbell.ring("plans.price")
