"""Which facts become which letters, and what the letters say. Pure: payloads and names in, contexts out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from apps.core.api.amounts import amount_format
from apps.events.selectors import LoggedEvent


@dataclass(frozen=True)
class Names:
    """What payloads leave out: decimals per asset code, and the asset that a plan pays with."""

    decimals: Mapping[str, int]
    asset_of_plan: Mapping[UUID, str] = field(default_factory=dict)

    def amount(self, units: Any, asset: str) -> str:
        return amount_format(int(units), decimals=self.decimals[asset])


@dataclass(frozen=True)
class Letter:
    template: str
    context: dict[str, Any]


Maker = Callable[[LoggedEvent, Names, ZoneInfo], Letter | None]

_WHY: Final[Mapping[str, tuple[str, str]]] = {
    # Why it did not buy, and what happens now.
    "missed": ("It fell due while we were away, and the plan is set to skip such buys.", "The plan goes on."),
    "budget_exhausted": (
        "The budget of the plan is used up.",
        "The plan ends when nothing of it is under way.",
    ),
    "insufficient_funds": (
        "There was not enough money in your account.",
        "Deposit what it needs. After three misses in a row the plan is paused.",
    ),
    "below_minimum": (
        "After the fee, less was left than the market trades at least.",
        "Raise the amount of the plan, or it will be skipped again.",
    ),
    "price_above_limit": (
        "The price was above the limit that you set.",
        "The plan tries again at its next date.",
    ),
    "price_below_limit": (
        "The price was below the limit that you set.",
        "The plan tries again at its next date.",
    ),
    "price_guard": (
        "The best price that we could get was too far from the market's.",
        "We do not buy at a bad price for you. The plan tries again at its next date.",
    ),
    "market_disabled": ("This market is closed at the moment.", "The plan tries again at its next date."),
    "paused": ("Buying is paused on the platform at the moment.", "The plan tries again at its next date."),
    "account_frozen": (
        "Your account is frozen, because the chain took a deposit of yours back.",
        "Write to us to have it looked at.",
    ),
    "awaiting_collection_timeout": (
        "Your deposit could not be collected in time to pay for it.",
        "The plan tries again at its next date.",
    ),
    "swap_reverted": (
        "The exchange on the chain failed each time we tried.",
        "The plan tries again at its next date.",
    ),
    "no_quote": ("No exchange offered a price in time.", "The plan tries again at its next date."),
    "transaction_refused": (
        "The transaction could not be sent.",
        "We look into it. The plan tries again at its next date.",
    ),
}
# What somebody did themselves a moment ago is no news to them.
_KNOWN_TO_OWNER = frozenset({"plan_paused", "plan_cancelled"})
_BY_OWNER = "by_owner"

_WITHDRAWAL_WHY: Final[Mapping[str, str]] = {
    "destination_is_token": "the destination is the contract of a token",
    "destination_is_ours": "the destination is an address of ours",
    "transfer_refused": "the token or the destination refused it",
    "too_much_gas": "it would have cost too much gas",
    "transaction_reverted": "the chain refused it",
}
_STEPS = (
    "awaiting_confirmation",
    "awaiting_approval",
    "sent",
    "confirmed",
    "failed",
    "cancelled",
    "rejected",
)


def when(instant: datetime | str, zone: ZoneInfo) -> str:
    """“Monday 16 November 2026, 09:00 CET”, in the person's zone."""
    moment = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
    local = moment.astimezone(zone)
    return f"{local:%A} {local.day} {local:%B %Y, %H:%M %Z}"


def _deposit(event: LoggedEvent, names: Names, _: ZoneInfo) -> Letter:
    given = event.payload
    units = given.get("credited_units", given["amount_units"])
    return Letter(
        "deposit_credited",
        {
            "amount": names.amount(units, given["asset"]),
            "asset": given["asset"],
            "network": given["network"],
            "transaction_hash": given["transaction_hash"],
        },
    )


def _bought(event: LoggedEvent, names: Names, zone: ZoneInfo) -> Letter:
    given = event.payload
    sold, bought = given["sold_asset"], given["bought_asset"]
    return Letter(
        "buy_done",
        {
            "plan_name": given["plan_name"],
            "number": given["number"],
            "spent": names.amount(given["amount_units"], sold),
            "sold_asset": sold,
            "fee": names.amount(given["fee_units"], sold),
            "received": names.amount(given["received_units"], bought),
            "bought_asset": bought,
            "at": when(given["scheduled_at"], zone),
            "transaction_hash": given["transaction_hash"],
        },
    )


def _skipped(event: LoggedEvent, names: Names, zone: ZoneInfo) -> Letter | None:
    given = event.payload
    reason = given["reason"]
    # Of misses in a row the first is told; the third pauses the plan, which is told as well.
    if reason in _KNOWN_TO_OWNER or given.get("misses_in_a_row", 1) > 1:
        return None
    why, following = _WHY[reason]
    asset = names.asset_of_plan[UUID(given["plan_id"])]
    return Letter(
        "buy_skipped",
        {
            "plan_name": given["plan_name"],
            "number": given["number"],
            "amount": names.amount(given["amount_units"], asset),
            "asset": asset,
            "at": when(given["scheduled_at"], zone),
            "reason": reason,
            "why": why,
            "next": following,
        },
    )


def _paused(event: LoggedEvent, _: Names, __: ZoneInfo) -> Letter | None:
    reason = event.payload["reason"]
    if reason == _BY_OWNER:
        return None
    return Letter("plan_paused", {"plan_name": event.payload["plan_name"], "reason": reason})


def _withdrawal(event: LoggedEvent, names: Names, _: ZoneInfo) -> Letter:
    given, step = event.payload, event.topic.partition(".")[2]
    asset = given["asset"]
    return Letter(
        "withdrawal_requested" if step == "requested" else "withdrawal_step",
        {
            "step": step,
            "asset": asset,
            "amount": names.amount(given["amount_units"], asset),
            "fee": names.amount(given["fee_units"], asset),
            "sent": names.amount(given["sent_units"], asset),
            "destination": given["destination"],
            "transaction_hash": given.get("transaction_hash", ""),
            "why": _WITHDRAWAL_WHY.get(given["reason"], ""),
        },
    )


LETTERS: Final[Mapping[str, Maker]] = {
    "deposit.credited": _deposit,
    "execution.settled": _bought,
    "execution.skipped": _skipped,
    "execution.failed": _skipped,
    "plan.paused": _paused,
    "withdrawal.requested": _withdrawal,
    **{f"withdrawal.{step}": _withdrawal for step in _STEPS},
}
# What goes into the digest of those who want one.
DIGESTED: Final = frozenset({"buy_done", "buy_skipped"})
