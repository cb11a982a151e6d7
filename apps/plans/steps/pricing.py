"""Step 4a: price and send. One reference, one quote, one guard, one transaction for the whole batch.

The chain is asked between transactions; what it said is acted on in one transaction that closes the slots that
must not buy, records the decision, and writes the intent of the swap. Signing and sending are `apps.chain`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

from apps.chain import selectors as chain_selectors
from apps.chain import services as chain
from apps.chain.models import Wallet
from apps.core import clock, failpoints
from apps.core.work import Claim
from apps.plans.models import AWAITING_COLLECTION, Batch, BatchState, Slot, SlotReason, SlotState
from apps.plans.steps.outcomes import (
    Closure,
    closure_for_plan,
    plans_lock,
    plans_locked,
    plans_stopped_locked,
    slots_close,
)
from apps.providers import services as providers
from apps.providers.domain import Quote, Ratio, min_out
from apps.providers.models import Market
from apps.treasury.pools import units_demand
from apps.treasury.spending import units_free

# How long a sent swap may wait for a block before the router itself refuses it. A swap that is mined later
# reverts and is quoted anew; the price that it was guarded by would be too old to keep.
DEADLINE = timedelta(minutes=20)
DECISION_VERSION = 1
# A batch whose units are still at deposit addresses looks again this often; each look has them brought.
COLLECTION_POLL_SECONDS = 2.0
_WAITING = ("awaiting_collection_since", "missing_units")
# What pricing does not look at of a slot; a batch has thousands.
_UNREAD = (
    "created_at",
    "updated_at",
    "leased_until",
    "run_after",
    "closed_at",
    "last_error",
    "received_units",
    "decision",
)


@dataclass(frozen=True)
class Priced:
    """What the chain said: who still buys, who does not and why, and the quote for those who do."""

    buying: list[Slot]
    closures: list[Closure]
    quote: Quote | None
    min_out_units: int


def batch_price(claim: Claim[Batch]) -> None:
    """Quote a batch in state `pricing` and hand its swap to the chain engine, or close it."""
    with claim.locked() as rows:
        if not rows:
            return
        batch = rows[0]
        slots = list(
            Slot.objects.filter(batch_id=batch.pk, state=SlotState.BATCHED).defer(*_UNREAD).order_by("pk")
        )
        market = Market.objects.select_related("sold_asset", "bought_asset").get(pk=batch.market_id)
        wallet = chain_selectors.wallet_get(role="swap")
    selling = sum(slot.swap_units or 0 for slot in slots)
    missing = selling - _free(market, wallet)
    if missing > 0:
        # Not worth a quote yet: it would be old by the time the units are there.
        with claim.locked() as rows:
            for batch in rows:
                _await_collection(claim, batch, market, missing)
            failpoints.reach("plans.price.collection_awaited")
        return
    failpoints.reach("plans.price.before_quote")
    priced = price(slots, market=market)
    approval_id = None
    if priced.quote is not None:
        allowance = providers.allowance_ensure(
            venue_id=priced.quote.venue_id,
            market_id=market.pk,
            wallet_id=wallet.pk,
            amount_units=priced.quote.amount_in_units,
            notify="plans.price",
        )
        if not allowance:
            # The approval under way is too small; the quote would be old by the time of the next one.
            with claim.locked():
                claim.wait(claim.ids, seconds=1)
            return
        approval_id = allowance.transaction_id
    failpoints.reach("plans.price.quoted")
    with claim.locked() as rows:
        for batch in rows:
            # Under the wallet's lock: what two batches sell is there for both.
            free_units = _free(market, wallet)
            if priced.quote is not None and priced.quote.amount_in_units > free_units:
                _await_collection(claim, batch, market, priced.quote.amount_in_units - free_units)
                continue
            _send(batch, priced, market=market, wallet=wallet, approval_id=approval_id)
            claim.step([batch.pk])
        failpoints.reach("plans.price.before_commit")
    failpoints.reach("plans.price.after_commit")


def _free(market: Market, wallet: Wallet) -> int:
    return units_free(network_id=market.network_id, wallet_id=wallet.pk, asset_id=market.sold_asset_id)


def _await_collection(claim: Claim[Batch], batch: Batch, market: Market, missing_units: int) -> None:
    """Wait, visibly, for units that lie at deposit addresses, and have them brought; not for ever.

    Slots that must not buy any more end here: the others may then not have to wait.
    """
    since = batch.decision.get("awaiting_collection_since") or clock.now().isoformat()
    facts = {"awaiting_collection_since": since, "missing_units": str(missing_units)}
    waited = clock.now() - datetime.fromisoformat(since)
    late = waited >= timedelta(seconds=settings.COLLECTION_TIMEOUT_SECONDS)
    slots = list(batch.slots.select_for_update().filter(state=SlotState.BATCHED).order_by("pk"))
    plans = plans_locked({slot.plan_id for slot in slots})
    closures = []
    for slot in slots:
        closure = closure_for_plan(slot, plans[slot.plan_id])
        if closure is None and late:
            closure = Closure(slot, SlotState.FAILED, SlotReason.AWAITING_COLLECTION_TIMEOUT, facts)
        if closure is not None:
            closures.append(closure)
    slots_close(closures, plans)
    batch.reason, batch.decision = AWAITING_COLLECTION, {**batch.decision, **facts}
    if len(closures) == len(slots):
        batch.state, batch.reason = BatchState.CLOSED, closures[0].reason.value if closures else "empty"
    batch.save(update_fields=["state", "reason", "decision"])
    if closures:
        claim.step([batch.pk])
        return
    units_demand(asset_id=market.sold_asset_id, units=missing_units)
    claim.wait([batch.pk], seconds=COLLECTION_POLL_SECONDS)


def price(slots: Sequence[Slot], *, market: Market) -> Priced:
    """Decide slot by slot: price limits against the reference, then the quote against each slot's own cap.

    Closing a slot makes the swap smaller and its price better, so the quote is asked again until everybody who is
    left accepts it. Nobody's cap is ever widened: the strictest of those left guards the whole swap.
    """
    if not slots:
        return Priced([], [], None, 0)
    reference = providers.reference_price_read(market_id=market.pk)
    whole = 10**market.bought_asset.decimals
    closures = []
    buying = []
    for slot in slots:
        reason = limit_broken(slot, reference.ratio, whole)
        if reason is None:
            buying.append(slot)
        else:
            closures.append(Closure(slot, SlotState.SKIPPED, reason, {"reference": reference.to_json()}))
    while buying:
        amount = sum(slot.swap_units or 0 for slot in buying)
        quote = providers.quotes_best(market_id=market.pk, amount_in_units=amount)
        deviation = quote.deviation_bps
        refused = [slot for slot in buying if cap_bps(slot, market) < deviation]
        if not refused:
            strictest = min(cap_bps(slot, market) for slot in buying)
            floor = max(1, min_out(quote.reference.ratio, amount, strictest))
            return Priced(buying, closures, quote, floor)
        facts = {"reference": quote.reference.to_json(), "deviation_bps": deviation}
        closures += [Closure(slot, SlotState.SKIPPED, SlotReason.PRICE_GUARD, facts) for slot in refused]
        gone = {slot.pk for slot in refused}
        buying = [slot for slot in buying if slot.pk not in gone]
    return Priced([], closures, None, 0)


def cap_bps(slot: Slot, market: Market) -> int:
    """How far below the reference this slot may fill: its own cap, within the market's guard."""
    return int(min(slot.max_slippage_bps, market.guard_bps))


def limit_broken(slot: Slot, ratio: Ratio, whole_bought_units: int) -> SlotReason | None:
    """Whether the price breaks a limit; the price is sold units for one whole bought coin, compared exactly."""
    price_times_numerator = whole_bought_units * ratio.denominator
    if slot.price_max_units is not None and price_times_numerator > slot.price_max_units * ratio.numerator:
        return SlotReason.PRICE_ABOVE_LIMIT
    if slot.price_min_units is not None and price_times_numerator < slot.price_min_units * ratio.numerator:
        return SlotReason.PRICE_BELOW_LIMIT
    return None


def _send(batch: Batch, priced: Priced, *, market: Market, wallet: Wallet, approval_id: UUID | None) -> None:
    """In the batch's transaction: close who does not buy, record the decision, request the swap.

    A plan may have been paused while the chain was asked: its slot closes here, and since the quote was for more
    the batch is priced once more at once.
    """
    locked = batch.slots.select_for_update().filter(state=SlotState.BATCHED).order_by("pk")
    plan_ids = set(locked.values_list("plan_id", flat=True))
    plans_lock(plan_ids)
    plans = plans_stopped_locked(plan_ids)
    stopped = [
        c for s in priced.buying if s.plan_id in plans and (c := closure_for_plan(s, plans[s.plan_id]))
    ]
    if priced.closures:
        plans |= plans_locked({closure.slot.plan_id for closure in priced.closures})
    slots_close([*priced.closures, *stopped], plans)
    quote = priced.quote
    if stopped and len(stopped) < len(priced.buying):
        return
    if quote is None or stopped:
        batch.state = BatchState.CLOSED
        batch.reason = (priced.closures or stopped)[0].reason.value if priced.closures or stopped else "empty"
        batch.save(update_fields=["state", "reason"])
        return
    now = clock.now()
    deadline = now + DEADLINE
    batch.reason = ""
    call = providers.swap_build(
        quote=quote,
        min_out_units=priced.min_out_units,
        recipient=wallet.address,
        deadline=int(deadline.timestamp()),
    )
    batch.amount_in_units = quote.amount_in_units
    batch.min_out_units = priced.min_out_units
    batch.slot_count = len(priced.buying)
    batch.decision = {
        **{name: said for name, said in batch.decision.items() if name not in _WAITING},
        "version": DECISION_VERSION,
        "decided_at": now.isoformat(),
        "deadline_at": deadline.isoformat(),
        "try": batch.try_number,
        "guard_bps": market.guard_bps,
        "min_out_units": str(priced.min_out_units),
        "quote": quote.to_json(),
    }
    batch.transaction = chain.transaction_request(
        network_id=market.network_id,
        wallet_id=wallet.pk,
        to=call.to,
        data=call.data,
        gas_limit=call.gas_limit,
        purpose="swap",
        reference=f"batch:{batch.pk}:{batch.try_number}",
        notify="plans.settle",
        after_id=approval_id,
    )
    batch.state = BatchState.SENDING
    batch.save()


def batches_without_quote(batches: list[Batch]) -> None:
    """No price or venue could be had within the tries: every slot ends, every hold goes back."""
    for batch in batches:
        slots = list(batch.slots.select_for_update().filter(state=SlotState.BATCHED).order_by("pk"))
        plans = plans_locked({slot.plan_id for slot in slots})
        facts = {"error": batch.last_error}
        slots_close([Closure(s, SlotState.FAILED, SlotReason.NO_QUOTE, facts) for s in slots], plans)
        Batch.objects.filter(pk=batch.pk).update(state=BatchState.CLOSED, reason=SlotReason.NO_QUOTE)
