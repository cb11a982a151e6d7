"""What a plan is going to do: its next runs, what each costs, and how long the money lasts."""

from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from apps.core import clock
from apps.fees.services import fees_for
from apps.ledger.domain import AccountKey, AccountKind
from apps.ledger.selectors import account_find, balance_as_of
from apps.plans.models import Plan
from apps.plans.rules import rule_of
from apps.plans.schedule import Kind, describe

RUNWAY_LIMIT = 1_000


@dataclass(frozen=True)
class Run:
    """One future run: when, by the plan's own clock too, and what it costs."""

    number: int
    scheduled_at: datetime
    local_at: str
    amount_units: int
    fee_units: int
    swapped_units: int


@dataclass(frozen=True)
class Preview:
    """The next runs and the runway. `funded_runs` counts this plan alone against what is available now."""

    description: str
    runs: list[Run]
    available_units: int
    funded_runs: int
    funds_last_until: datetime | None
    ends_at: datetime | None
    warnings: list[str] = field(default_factory=list)


def plan_preview(*, plan: Plan, tier: str, count: int) -> Preview:
    """Look ahead, at most `count` runs in detail and `RUNWAY_LIMIT` for the runway. Reads, never writes.

    Other plans of the person spend the same money; they are not counted, and a warning says so.
    """
    amounts, instants, ended = _ahead(plan, max(count, RUNWAY_LIMIT))
    shown = amounts[:count]
    fees = fees_for(asset_id=plan.market.sold_asset_id, tier=tier, amounts=shown) if shown else []
    zone = ZoneInfo(plan.zone)
    runs = [
        Run(plan.next_number + n, at, at.astimezone(zone).isoformat(), amount, fee, amount - fee)
        for n, (at, amount, fee) in enumerate(zip(instants, shown, fees, strict=False))
    ]
    available = _available(plan)
    funded, left = 0, available
    for amount in amounts:
        if amount > left:
            break
        left -= amount
        funded += 1
    return Preview(
        description=describe(rule_of(plan)),
        runs=runs,
        available_units=available,
        funded_runs=funded,
        funds_last_until=instants[funded - 1] if funded else None,
        ends_at=instants[-1] if ended and instants else None,
        warnings=_warnings(plan, runs, funded, len(amounts)),
    )


def _ahead(plan: Plan, count: int) -> tuple[list[int], list[datetime], bool]:
    """Amounts and instants of the coming runs, and whether the plan ends within them."""
    amounts: list[int] = []
    instants: list[datetime] = []
    at = max(plan.run_after, plan.start_at)
    rule = rule_of(plan)
    left = None if plan.total_budget_units is None else plan.total_budget_units - plan.committed_units
    following = rule.after(at)
    for number in range(plan.next_number, plan.next_number + count):
        over = (plan.end_at is not None and at > plan.end_at) or (
            plan.max_runs is not None and number > plan.max_runs
        )
        if over or left == 0:
            return amounts, instants, True
        amount = plan.amount_units
        if left is not None:
            amount = min(amount, left)
            if 0 < left - amount < plan.market.min_trade_units:
                amount = left
            left -= amount
        amounts.append(amount)
        instants.append(at)
        at = next(following)
    return amounts, instants, False


def _available(plan: Plan) -> int:
    key = AccountKey(AccountKind.AVAILABLE, plan.market.sold_asset_id, plan.owner_id)
    account_id = account_find(key=key)
    return 0 if account_id is None else balance_as_of(account_id=account_id, at=clock.now())


def _warnings(plan: Plan, runs: list[Run], funded: int, total: int) -> list[str]:
    said = []
    if funded == 0:
        said.append("insufficient_funds: what is available does not pay for the next run.")
    elif funded < total:
        said.append("runway: funds run out before the plan ends; other plans may use them up sooner.")
    offsets = {run.local_at[-6:] for run in runs}
    if len(offsets) > 1:
        said.append("dst: clocks change within these runs; the local time stays, the UTC time moves.")
    if plan.schedule_kind == Kind.MONTHLY and (plan.month_day or plan.start_at.day) > 28:
        said.append("month_end: in shorter months the run is on the month's last day.")
    return said
