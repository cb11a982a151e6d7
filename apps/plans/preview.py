"""What a plan is going to do: its next runs, what each costs, and how long money and budget last.

Everything comes from the plan's rule and our own tables; the amounts follow the same rule as the opening step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final

from apps.core import clock
from apps.fees.services import fees_for
from apps.ledger.selectors import balances_for_owner
from apps.plans import terms
from apps.plans.models import Plan, PlanState
from apps.plans.rules import rule_of
from apps.plans.schedule import Kind, ScheduleError
from apps.plans.schedule_text import describe
from apps.plans.zones import zone_get

# How many runs the runway looks at; `Preview.outlasts` says when it might go on beyond them.
LOOK_AHEAD_RUNS: Final = 1_000
COUNTED: Final = (
    "Available funds against this plan's runs alone: what is held already, other plans and future deposits"
    " are not counted."
)
_ENDED: Final = (PlanState.COMPLETED, PlanState.CANCELLED)
_SHORT_MONTH_DAYS: Final = 28


@dataclass(frozen=True, slots=True)
class Run:
    """One future run: when, also by the plan's own clock, and what it costs in units of the sold asset."""

    number: int
    scheduled_at: datetime
    local_at: str
    amount_units: int
    fee_units: int
    swapped_units: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person would otherwise find out later. `code` is stable, `text` is for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Preview:
    """The next runs, and the runway within the look-ahead.

    `funded_runs` are those that available funds pay, this plan counted alone; the last of them is at
    `funds_last_until`. `outlasts`: funds pay every run that was looked at and the plan goes on after those.
    `budget_exhausted_at` is the run that spends the last of the budget, `ends_at` the plan's last run.
    """

    plan: Plan
    description: str
    counted: str
    runs: list[Run]
    available_units: int
    funded_runs: int
    funds_last_until: datetime | None
    outlasts: bool
    budget_exhausted_at: datetime | None
    ends_at: datetime | None
    warnings: list[Notice] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Coming runs (instant, amount), whether they are all, and whether the budget ends them."""

    runs: list[tuple[datetime, int]]
    complete: bool
    spends_budget: bool


def plan_preview(*, plan: Plan, tier: str, count: int) -> Preview:
    """Look ahead: `count` runs in detail, `LOOK_AHEAD_RUNS` for the runway. Two queries, no write.

    `plan` may be unsaved (`services.plan_draft`). A paused plan is shown as if it were resumed now. Raises
    `FeeScheduleMissing`, and `DomainError` for a stored schedule whose zone is gone.
    """
    try:
        zone_get(plan.zone)
    except ScheduleError as error:
        raise terms.refused_rule(error) from error
    ahead = _look_ahead(plan, max(count, LOOK_AHEAD_RUNS))
    runs = _runs(plan, ahead.runs[:count], tier=tier)
    available = _available(plan)
    funded = _funded(available, [amount for _, amount in ahead.runs])
    instants = [at for at, _ in ahead.runs]
    last = instants[-1] if instants else None
    return Preview(
        plan=plan,
        description=describe(rule_of(plan)),
        counted=COUNTED,
        runs=runs,
        available_units=available,
        funded_runs=funded,
        funds_last_until=instants[funded - 1] if funded else None,
        outlasts=not ahead.complete and funded == len(instants),
        budget_exhausted_at=last if ahead.spends_budget else None,
        ends_at=last if ahead.complete else None,
        warnings=list(_warnings(plan, runs, ahead, funded=funded)),
    )


def _look_ahead(plan: Plan, count: int) -> _Ahead:
    """The plan's next `count` runs, fewer when it ends before."""
    left = None if plan.total_budget_units is None else plan.total_budget_units - plan.committed_units
    runs: list[tuple[datetime, int]] = []
    # One more than asked for tells whether there is more.
    for at in islice(_instants(plan), count + 1):
        amount = _amount(plan, left)
        if amount == 0:
            return _Ahead(runs, complete=True, spends_budget=bool(runs))
        if len(runs) == count:
            return _Ahead(runs, complete=False, spends_budget=False)
        runs.append((at, amount))
        left = None if left is None else left - amount
    return _Ahead(runs, complete=True, spends_budget=left == 0 and bool(runs))


def _instants(plan: Plan) -> Iterator[datetime]:
    """The plan's next runs, to its end."""
    if plan.state in _ENDED:
        return
    now = clock.now()
    # A paused plan's next run is settled when it is resumed.
    first = plan.run_after if plan.state == PlanState.ACTIVE else terms.run_after(plan, now)
    if first is None:
        return
    left = None if plan.max_runs is None else max(0, plan.max_runs - plan.next_number + 1)
    yield from islice(_until(plan.end_at, first, rule_of(plan).after(first)), left)


def _until(end_at: datetime | None, first: datetime, following: Iterator[datetime]) -> Iterator[datetime]:
    at: datetime | None = first
    while at is not None and (end_at is None or at <= end_at):
        yield at
        at = next(following, None)


def _amount(plan: Plan, left: int | None) -> int:
    """The amount of the next run when the budget has `left`: the last run takes what is too small for one more."""
    if left is None:
        return int(plan.amount_units)
    amount = min(plan.amount_units, left)
    return int(left if 0 < left - amount < plan.market.min_trade_units else amount)


def _runs(plan: Plan, coming: Sequence[tuple[datetime, int]], *, tier: str) -> list[Run]:
    amounts = [amount for _, amount in coming]
    fees = fees_for(asset_id=plan.market.sold_asset_id, tier=tier, amounts=amounts)
    zone = zone_get(plan.zone)
    return [
        Run(plan.next_number + n, at, at.astimezone(zone).isoformat(), amount, fee, amount - fee)
        for n, ((at, amount), fee) in enumerate(zip(coming, fees, strict=True))
    ]


def _available(plan: Plan) -> int:
    balances = balances_for_owner(owner_id=plan.owner_id)
    return sum(b.available_units for b in balances if b.asset.id == plan.market.sold_asset_id)


def _funded(available: int, amounts: Sequence[int]) -> int:
    """How many of the runs, from the first, are paid for."""
    for n, amount in enumerate(amounts):
        available -= amount
        if available < 0:
            return n
    return len(amounts)


def _warnings(plan: Plan, runs: Sequence[Run], ahead: _Ahead, *, funded: int) -> Iterator[Notice]:
    if not ahead.runs:
        yield Notice("no_runs", "No run is left.")
        return
    if plan.state == PlanState.PAUSED:
        yield Notice("paused", "The plan is paused; these are its runs if it is resumed now.")
    if funded == 0:
        yield Notice("insufficient_funds", "What is available does not pay for the next run.")
    elif funded < len(ahead.runs):
        at = ahead.runs[funded][0]
        yield Notice(
            "runway", f"Funds pay {funded} runs; the run at {at.isoformat()} is the first that they do not."
        )
    if any(run.swapped_units < plan.market.min_trade_units for run in runs):
        yield Notice(
            "below_minimum", "What the fee leaves of an amount is too little to trade: it is skipped."
        )
    yield from _clock_warnings(plan, runs)


def _clock_warnings(plan: Plan, runs: Sequence[Run]) -> Iterator[Notice]:
    """Where the plan's wall clock does what people do not expect of clocks."""
    if plan.local_time is not None:
        moved = [run for run in runs if run.local_at[11:16] != f"{plan.local_time:%H:%M}"]
        for run in moved:
            yield Notice(
                "dst_gap",
                f"On {run.local_at[:10]} clocks skip {plan.local_time:%H:%M}; the run is at {run.local_at[11:16]}.",
            )
    offsets = {run.local_at[-6:] for run in runs}
    if len(offsets) > 1:
        stays = (
            "every run is by elapsed time"
            if plan.schedule_kind == Kind.HOURLY
            else "runs keep their local time"
        )
        yield Notice("dst_shift", f"Clocks in {plan.zone} change within these runs: {stays}.")
    if plan.schedule_kind == Kind.MONTHLY:
        day = plan.month_day or plan.start_at.astimezone(zone_get(plan.zone)).day
        clamped = [run.local_at[:10] for run in runs if int(run.local_at[8:10]) < day]
        if day > _SHORT_MONTH_DAYS and clamped:
            yield Notice(
                "month_end", f"Months without a day {day} run on their last day: {', '.join(clamped)}."
            )
