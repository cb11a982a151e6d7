"""The main job's kinds of work, in the order of its steps. Names are also those of bells and tasks."""

from apps.core.work import Work, register
from apps.plans.models import Batch, BatchState, Plan, PlanState, Slot, SlotState
from apps.plans.steps.batching import slots_batch
from apps.plans.steps.opening import slots_open
from apps.plans.steps.pricing import batch_price, batches_without_quote
from apps.plans.steps.reserving import slots_reserve
from apps.plans.steps.settling import batch_settle

_TIMES = ("created_at", "updated_at", "leased_until")
# Open or reserved, in the words of the index of due slots: it does not name the state, so that reserving, which
# changes nothing else that is indexed, leaves all indexes as they are.
_UNBATCHED = "item.batch_id IS NULL AND item.closed_at IS NULL"
# All slots of a market are one swap: they go through the steps together, and the swap of one market is under way
# while the next one's are reserved.
_MARKET = "market_id"
_SLOT = (*_TIMES, "run_after", "closed_at", "last_error", "received_units", "batch", "decision")

OPEN = register(
    Work(
        "plans.open",
        Plan,
        (PlanState.ACTIVE,),
        advance=slots_open,
        keeps_run_after=True,
        together=_MARKET,
        unread=_TIMES,
        chunk=2_500,
    )
)
RESERVE = register(
    Work(
        "plans.reserve",
        Slot,
        (SlotState.OPEN,),
        advance=slots_reserve,
        together=_MARKET,
        indexed_where=_UNBATCHED,
        unread=_SLOT,
        chunk=2_500,
    )
)
BATCH = register(
    Work(
        "plans.batch",
        Slot,
        (SlotState.RESERVED,),
        advance=slots_batch,
        claims_alone=True,
        together=_MARKET,
        indexed_where=_UNBATCHED,
        unread=_SLOT,
        chunk=10_000,
    )
)
PRICE = register(
    Work(
        "plans.price",
        Batch,
        (BatchState.PRICING,),
        perform=batch_price,
        on_bury=batches_without_quote,
        chunk=1,
        once_per_drain=True,
        lease_seconds=60.0,
        # About ten minutes. Endpoints that are away or limit the rate for two must not cost people their buy, and
        # nobody's funds should be held for long by a price that cannot be had.
        max_attempts=20,
        backoff_cap_seconds=60.0,
    )
)
SETTLE = register(
    Work("plans.settle", Batch, (BatchState.SENDING,), perform=batch_settle, chunk=1, once_per_drain=True)
)
