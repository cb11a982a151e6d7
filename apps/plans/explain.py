"""Why a slot ended as it did, in sentences: read from the slot and its decision record, computed from nothing else."""

from collections.abc import Iterator, Mapping
from typing import Any

from apps.core.api.amounts import amount_format
from apps.core.models import Asset
from apps.plans.models import AWAITING_COLLECTION, Slot, SlotReason, SlotState
from apps.plans.quote import Why
from apps.plans.selectors import SlotRecord, price_units

_LIMITS = (SlotReason.PRICE_ABOVE_LIMIT, SlotReason.PRICE_BELOW_LIMIT)


def slot_why(record: SlotRecord) -> list[Why]:
    """The sentences in the order in which things were decided; `code` is stable, `text` is for people."""
    slot, decision = record.slot, record.decision
    return [*_funds(slot, decision), *_price(slot, decision), *_fill(slot), _outcome(slot)]


def _funds(slot: Slot, decision: Mapping[str, Any]) -> Iterator[Why]:
    sold = slot.market.sold_asset
    fee = decision.get("fee_units")
    if fee is not None:
        yield Why(
            "fee",
            f"Of {_say(slot.amount_units, sold)}, the fee of tier {decision['fee_tier']} takes {_say(int(fee), sold)}"
            f" and {_say(slot.amount_units - int(fee), sold)} are to be swapped.",
        )
    available = decision.get("available_units")
    if available is not None:
        yield Why("funds", f"{_say(int(available), sold)} were available.")


def _price(slot: Slot, decision: Mapping[str, Any]) -> Iterator[Why]:
    quote = decision.get("quote", {})
    # A slot that was turned away keeps the price that it was turned away at; the batch went on with another.
    reference = decision.get("reference") or quote.get("reference")
    if reference is None:
        return
    sold, bought = slot.market.sold_asset, slot.market.bought_asset
    price = price_units(
        sold_units=int(reference["denominator"]),
        bought_units=int(reference["numerator"]),
        bought_decimals=bought.decimals,
    )
    yield Why(
        "reference",
        f"One {bought.code} cost {_say(price or 0, sold)} by independent price feeds"
        f" (block {reference['block_number']}).",
    )
    if slot.reason in _LIMITS:
        high = slot.reason == SlotReason.PRICE_ABOVE_LIMIT
        limit = slot.price_max_units if high else slot.price_min_units
        yield Why("limit", f"The plan buys at {'most' if high else 'least'} {_say(limit or 0, sold)}.")
    deviation = decision.get("deviation_bps", quote.get("deviation_bps"))
    if deviation is not None and slot.reason not in _LIMITS:
        yield Why(
            "quote",
            f"The best quote was {abs(deviation)} basis points {'below' if deviation >= 0 else 'above'} that;"
            f" the plan allows {slot.max_slippage_bps} below.",
        )


def _fill(slot: Slot) -> Iterator[Why]:
    if slot.state != SlotState.SETTLED:
        return
    sold, bought = slot.market.sold_asset, slot.market.bought_asset
    price = price_units(
        sold_units=slot.swap_units, bought_units=slot.received_units, bought_decimals=bought.decimals
    )
    shared = slot.batch.slot_count - 1 if slot.batch is not None else 0
    others = f", in one swap with {shared} other{'s' if shared > 1 else ''}" if shared else ""
    yield Why(
        "fill",
        f"{_say(slot.swap_units or 0, sold)} bought {_say(slot.received_units or 0, bought)},"
        f" {_say(price or 0, sold)} for one{others}.",
    )


def _outcome(slot: Slot) -> Why:
    if not slot.reason and slot.batch is not None and slot.batch.reason == AWAITING_COLLECTION:
        return Why(AWAITING_COLLECTION, "The money is being collected from deposit addresses.")
    if not slot.reason:
        return Why("under_way", "It is not decided yet.")
    return Why(slot.reason, f"{SlotReason(slot.reason).label}.")


def _say(units: int, asset: Asset) -> str:
    return f"{amount_format(units, decimals=asset.decimals)} {asset.code}"
