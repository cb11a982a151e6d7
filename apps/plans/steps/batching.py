"""Step 3: batch. Reserved slots of one market become one swap, so that gas and time are paid once for all."""

from collections import defaultdict
from datetime import timedelta
from uuid import UUID

from django.db.models import Count, Min, Q, QuerySet
from django.db.models.functions import Now

from apps.core import bulk, clock, doorbell, failpoints, work
from apps.core.ids import uuid7
from apps.plans.models import Batch, Plan, PlanState, Slot, SlotState
from apps.plans.steps.outcomes import closure_for_plan, plans_stopped_locked, slots_close
from apps.providers.models import Market

# How long a reserved slot waits at most for those that are still being reserved.
GATHER_SECONDS = 2.0


def markets_gathered() -> list[UUID]:
    """The markets whose reserved slots are worth a swap now: nothing else of theirs that is due is still on its way.

    Slots that fall due together are opened and reserved in several chunks, and one swap costs less than two. Whoever
    reserves the last of them rings again, and so does the tick; no slot waits longer than `GATHER_SECONDS`.
    """
    unbatched = Slot.objects.filter(
        batch=None, closed_at=None, buried_at=None, run_after__lte=clock.now()
    ).values("market_id")
    patience = Now() - timedelta(seconds=GATHER_SECONDS)
    markets = unbatched.annotate(
        reserved=Count("pk", filter=Q(state=SlotState.RESERVED)),
        coming=Count("pk", filter=Q(state=SlotState.OPEN)),
        since=Min("updated_at", filter=Q(state=SlotState.RESERVED)),
    ).filter(reserved__gt=0)
    ready = markets.filter(Q(coming=0) & ~Q(market_id__in=_markets_opening()) | Q(since__lt=patience))
    return list(ready.order_by("since").values_list("market_id", flat=True))


def _markets_opening() -> QuerySet[Plan, UUID]:
    """Markets of plans that are due and not opened yet; one that failed and waits for its next try is not meant."""
    waits = Q(lease_token=None, leased_until__gte=Now())
    due = Plan.objects.filter(state=PlanState.ACTIVE, buried_at=None, run_after__lte=clock.now())
    return due.exclude(waits).values_list("market_id", flat=True)


def slots_batch(slots: list[Slot]) -> None:
    """Put locked reserved slots into new batches, one per market and size limit; rings the price step."""
    # Not all are locked: the step that hands the swap over looks again, with every plan locked.
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
