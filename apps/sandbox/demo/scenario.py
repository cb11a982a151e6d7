"""What the demo plays: two people, their plans, the calendar around a change of the clocks, the market's path.

Pure and independent of `apps.plans.schedule`: what a plan should do is worked out here a second time, by hand,
so that the demo checks the platform against something else than itself.
"""

import random
from calendar import monthrange
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

BERLIN = ZoneInfo("Europe/Berlin")
_AT = time(9, 0)
_HOURS = 24
_SEED = 21
# The walk's daily step in basis points: a little down on average, so that the buyer with a limit gets to buy.
_DRIFT, _SPREAD = -22, 110
_STARTS = {"WBTC": Decimal(60_000), "WETH": Decimal(2_500), "LINK": Decimal(15)}


class Outcome(StrEnum):
    """What the story says a plan's slots should end like."""

    BUYS = "buys"  # every slot settles
    BLOCKED = "blocked"  # by its price limit, until the market comes down
    RUNS_DRY = "runs_dry"  # buys while funds last, then pauses


class SignsInBy(StrEnum):
    """How somebody comes to the API once they have signed up."""

    SESSION = "session"  # with access tokens, and an authenticator app as second factor
    KEY = "key"  # with an API key


@dataclass(frozen=True)
class PlanSpec:
    """A plan as a person would describe it; amounts are decimal strings."""

    key: str
    owner: str
    name: str
    market: str
    amount: str
    kind: str
    starts_at: datetime
    ends_at: datetime
    runs: tuple[datetime, ...]
    outcome: Outcome = Outcome.BUYS
    day: int | None = None
    max_runs: int | None = None
    price_max: str | None = None
    affordable: int | None = None

    @property
    def sold(self) -> str:
        return self.market.split("/")[0]

    @property
    def bought(self) -> str:
        return self.market.split("/")[1]


@dataclass(frozen=True)
class PersonSpec:
    name: str
    email: str
    signs_in_by: SignsInBy
    funds: dict[str, str]


@dataclass(frozen=True)
class Scenario:
    """Everything that is fixed before the first second. `prices[day]` are that local day's dollar prices."""

    start: datetime
    end: datetime
    changes_at: datetime
    people: tuple[PersonSpec, ...]
    plans: tuple[PlanSpec, ...]
    prices: dict[date, dict[str, Decimal]] = field(default_factory=dict)

    @property
    def instants(self) -> list[datetime]:
        """Every instant at which some plan should be due, ascending."""
        return sorted({run for plan in self.plans for run in plan.runs})

    def prices_at(self, instant: datetime) -> dict[str, Decimal]:
        return self.prices[instant.astimezone(BERLIN).date()]

    def expected(self, plan: PlanSpec) -> dict[str, int]:
        """How many slots end with which reason."""
        if plan.outcome is Outcome.RUNS_DRY:
            bought = min(len(plan.runs), plan.affordable or 0)
            missed = min(len(plan.runs) - bought, 3)
            return _counted(filled=bought, insufficient_funds=missed)
        if plan.outcome is Outcome.BLOCKED and plan.price_max is not None:
            limit = Decimal(plan.price_max)
            bought = sum(self.prices_at(run)[plan.bought] <= limit for run in plan.runs)
            return _counted(filled=bought, price_above_limit=len(plan.runs) - bought)
        return _counted(filled=len(plan.runs))


def scenario_make(*, now: datetime, days: int) -> Scenario:
    """The story around the next spring change of Europe's clocks: 27 days before it, or the middle of fewer."""
    changes_on = next(
        on for year in (now.year, now.year + 1) if (on := _change(year)) - now.date() > timedelta(35)
    )
    first = changes_on - timedelta(days=min(27, days // 2))
    start, end = _midnight(first), _midnight(first + timedelta(days=days))
    dates = [first + timedelta(days=number) for number in range(days)]
    prices = _walk(dates)
    daily = tuple(_local(on) for on in dates)
    month_ends = tuple(_local(on) for on in dates if on.day == monthrange(on.year, on.month)[1])
    hours_from = start + timedelta(days=2)
    hourly = tuple(hours_from + timedelta(hours=number) for number in range(_HOURS))

    def spec(key: str, owner: str, name: str, market: str, amount: str, **more: Any) -> PlanSpec:
        return PlanSpec(key, owner, name, market, amount, **{"starts_at": start, "ends_at": end, **more})

    plans = (
        spec("daily", "Ada", "Bitcoin, daily", "USDC/WBTC", "25", kind="daily", runs=daily),
        spec("monthly", "Ada", "Bitcoin, on the 31st", "USDC/WBTC", "200", kind="monthly", runs=month_ends, day=31),
        spec("hourly", "Ada", "Ether, one day by the hour", "USDC/WETH", "5", kind="hourly", runs=hourly,
             starts_at=hours_from, max_runs=_HOURS),
        spec("daily2", "Bela", "Bitcoin, daily too", "USDC/WBTC", "40", kind="daily", runs=daily),
        spec("limit", "Bela", "Bitcoin, if cheap", "USDC/WBTC", "30", kind="daily", runs=daily,
             outcome=Outcome.BLOCKED, price_max=_limit(prices, dates)),
        spec("dry", "Bela", "Bitcoin for ether", "WETH/WBTC", "0.02", kind="daily", runs=daily,
             outcome=Outcome.RUNS_DRY, affordable=5),
    )  # fmt: skip
    people = (
        PersonSpec("Ada", "ada@example.com", SignsInBy.SESSION, {"USDC": str(25 * days + 700)}),
        # One of each, some to the last decimal; nothing buys with bitcoin, links and ether: they only come and go.
        PersonSpec(
            "Bela",
            "bela@example.com",
            SignsInBy.KEY,
            {
                "USDC": f"{70 * days + 100}.000001",
                "WETH": "0.11",
                "WBTC": "0.01000001",
                "LINK": "12.000000000000000001",
                "ETH": "1.500000000000000001",
            },
        ),
    )
    # A plan whose first run lies after the story's end would be refused, and rightly.
    playing = tuple(plan for plan in plans if plan.runs)
    return Scenario(start, end, _local(changes_on).replace(hour=1), people, playing, prices)


def _counted(**reasons: int) -> dict[str, int]:
    return {reason: count for reason, count in reasons.items() if count}


def _change(year: int) -> date:
    """The last Sunday of March (Directive 2000/84/EC)."""
    last = date(year, 3, 31)
    return last - timedelta(days=(last.weekday() + 1) % 7)


def _midnight(on: date) -> datetime:
    return datetime.combine(on, time(), UTC)


def _local(on: date) -> datetime:
    """09:00 by Berlin's clocks."""
    return datetime.combine(on, _AT, BERLIN).astimezone(UTC)


def _walk(dates: list[date]) -> dict[date, dict[str, Decimal]]:
    """A random walk from a fixed seed: the same path in every run."""
    source = random.Random(_SEED)  # noqa: S311 - a story, not a secret
    now, path = dict(_STARTS), {}
    for on in dates:
        path[on] = dict(now)
        now = {
            symbol: (price * (10_000 + round(source.gauss(_DRIFT, _SPREAD))) / 10_000).quantize(
                Decimal("0.01")
            )
            for symbol, price in now.items()
        }
    return path


def _limit(prices: dict[date, dict[str, Decimal]], dates: list[date]) -> str:
    """Below most of the path and above its low: blocked at first, buying later."""
    path = sorted(prices[on]["WBTC"] for on in dates)
    return str(path[max(len(path) // 3 - 1, 0)])
