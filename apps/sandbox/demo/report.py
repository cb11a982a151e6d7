"""The end of the demo: what everybody has, what every slot came to, and whether all of it holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from rich import box
from rich.console import Console
from rich.table import Table

from apps.sandbox.demo.client import Person
from apps.sandbox.demo.scenario import BERLIN, Outcome, PlanSpec, Scenario
from apps.sandbox.demo.screen import ether

# Columns that are aligned on the right.
_NUMBERS = {
    *(
        "Available",
        "Held",
        "Slots",
        "Expected",
        "Swaps",
        "Gas",
        "Ether",
        "UTC",
        "Slot",
        "Sweeps",
        "Deposited",
    ),
    *("Spent", "of it fees", "Bought", "Arrived", "Fee", "Left", "Credited", "Collected", "Left there"),
    *("Owed to people", "On chain", "Difference"),
    *("Mails", "Codes", "Refreshes", "Step-ups", "App codes", "Recovery", "Waits"),
}
_KNOWN_STATES = {"settled", "skipped", "failed"}


@dataclass
class Checks:
    """What must hold, in the order in which it was looked at."""

    found: list[tuple[bool, str]] = field(default_factory=list)

    def add(self, holds: bool, what: str) -> None:
        self.found.append((holds, what))

    @property
    def hold(self) -> bool:
        return all(holds for holds, _ in self.found)


@dataclass(frozen=True)
class Told:
    """A plan as its owner sees it through the API in the end."""

    spec: PlanSpec
    plan: dict[str, Any]
    slots: list[dict[str, Any]]

    @property
    def reasons(self) -> dict[str, int]:
        return dict(Counter(str(slot["reason"]) for slot in self.slots))


@dataclass(frozen=True)
class Swaps:
    """What the chain burned for swaps and their approvals."""

    count: int
    gas: int
    wei: int
    reverted: int
    approvals: int
    all_wei: int


def balances_report(
    console: Console, people: Sequence[Person], told: Sequence[Told], scenario: Scenario, checks: Checks
) -> None:
    """Balances from the API; each is checked against the journal, and against funds less buys."""
    table = table_make(
        "Balances, as the API tells them", "Person", "Asset", "Available", "Held", "In the journal"
    )
    for person in people:
        spec = next(one for one in scenario.people if one.name == person.name)
        story = _story_units([one for one in told if one.spec.owner == person.name], spec.funds)
        entries = journal_units(person.email)
        for balance in person.balances():
            code, decimals = str(balance["asset"]), int(balance["decimals"])
            available, held = int(balance["available_units"]), int(balance["held_units"])
            exact = Decimal(available).scaleb(-decimals) == Decimal(balance["available"])
            proved = (
                exact and held == 0 and available == entries.get(code, 0) == story.get((code, decimals), 0)
            )
            checks.add(proved, f"{person.name}'s {code}: API, journal and funds less buys agree to the unit")
            table.add_row(
                person.name, code, balance["available"], balance["held"], "equal" if proved else "DIFFERS"
            )
    console.print(table)


def outcomes_report(console: Console, told: Sequence[Told], scenario: Scenario, checks: Checks) -> None:
    """Every slot's outcome, grouped by plan and reason, against the story."""
    table = table_make(
        "Every slot has one outcome", "Plan", "Slots", "State", "Reason", "Expected", "Plan now"
    )
    for one in told:
        expected = scenario.expected(one.spec)
        name = f"{one.spec.owner}: {one.spec.name}"
        for position, (reason, count) in enumerate(sorted(one.reasons.items())):
            states = {str(slot["state"]) for slot in one.slots if slot["reason"] == reason}
            table.add_row(
                name if position == 0 else "",
                str(count),
                ", ".join(sorted(states)),
                reason,
                str(expected.get(reason, 0)),
                str(one.plan["state"]) if position == 0 else "",
            )
        closed = all(slot["state"] in _KNOWN_STATES and slot["reason"] for slot in one.slots)
        numbers = [int(slot["number"]) for slot in one.slots]
        once = numbers == list(range(1, len(numbers) + 1))
        checks.add(closed and once, f"{name}: numbers 1 to {len(numbers)} exist once, each with an outcome")
        checks.add(one.reasons == expected, f"{name}: outcomes are the story's")
        on_time = [_instant(slot["scheduled_at"]) for slot in one.slots] == list(
            one.spec.runs[: len(one.slots)]
        )
        checks.add(on_time, f"{name}: every slot was scheduled at the instant worked out by hand")
        if one.spec.outcome is Outcome.RUNS_DRY and len(one.spec.runs) > len(one.slots):
            paused = (one.plan["state"], one.plan["state_reason"]) == ("paused", "insufficient_funds")
            checks.add(paused, f"{name}: paused after three misses")
        elif expected:
            checks.add(one.plan["state"] == "completed", f"{name}: completed with its schedule")
    console.print(table)


def calendar_report(console: Console, told: Sequence[Told], scenario: Scenario, checks: Checks) -> None:
    """Nine o'clock in Berlin before and after the change, and month ends that clamp."""
    daily = next(one for one in told if one.spec.key == "daily")
    table = table_make("Nine o'clock stays nine o'clock", "Berlin", "Offset", "UTC", "Slot", "Outcome")
    change = scenario.changes_at.date()
    for slot in daily.slots:
        at = _instant(slot["scheduled_at"])
        if abs((at.date() - change).days) <= 1:
            local = at.astimezone(BERLIN)
            table.add_row(
                f"{local:%a %d %b %Y %H:%M %Z}",
                f"{local:%z}",
                f"{at:%H:%M}",
                str(slot["number"]),
                slot["reason"],
            )
    for one in told:
        if one.spec.day is not None:
            for slot in one.slots:
                local = _instant(slot["scheduled_at"]).astimezone(BERLIN)
                table.add_row(
                    f"{local:%a %d %b %Y %H:%M %Z}", f"{local:%z}", f"{_instant(slot['scheduled_at']):%H:%M}",
                    str(slot["number"]), f"{slot['reason']} (on the 31st)",
                )  # fmt: skip
    console.print(table)
    locals_ = [_instant(slot["scheduled_at"]).astimezone(BERLIN) for slot in daily.slots]
    offsets = {str(local.utcoffset()) for local in locals_}
    checks.add(
        {(at.hour, at.minute) for at in locals_} == {(9, 0)}, "the daily plan bought at 09:00 Berlin time"
    )
    checks.add(len(offsets) == 2, "the change of the clocks lies within the daily plan's runs")


def decision_report(console: Console, people: Sequence[Person], told: Sequence[Told], checks: Checks) -> None:
    """Why one slot did not buy: its decision record, as its owner reads it."""
    for one in told:
        skipped = next((slot for slot in one.slots if slot["reason"] == "price_above_limit"), None)
        if skipped is None or one.spec.price_max is None:
            continue
        owner = next(person for person in people if person.name == one.spec.owner)
        slot = owner.slot(str(skipped["id"]))
        reference = slot["decision"]["reference"]
        price = _price(reference, one.spec)
        at = _instant(slot["scheduled_at"]).astimezone(BERLIN)
        why = slot["why"]
        console.print("Why did it not buy?", style="bold")
        console.print(f"  {owner.name}, “{one.spec.name}”, slot {slot['number']} of {at:%a %d %b %Y %H:%M}:")
        for line in why:
            console.print(f"  - {line['text']}")
        console.print()
        told_why = any(line["code"] == "price_above_limit" for line in why)
        checks.add(
            told_why and price > Decimal(one.spec.price_max), "a slot that did not buy says why, and is right"
        )
        return


def gas_report(console: Console, told: Sequence[Told], checks: Checks) -> None:
    """What batching saved: slots against swaps, and gas at the average swap's."""
    swaps = _swaps()
    settled = sum(slot["state"] == "settled" for one in told for slot in one.slots)
    saved = settled - swaps.count
    average = swaps.wei // swaps.count if swaps.count else 0
    table = table_make("What batching saves", "", "Swaps", "Gas", "Ether", "")
    table.add_row("one swap per slot (estimate)", str(settled), f"{swaps.gas * settled // max(swaps.count, 1):,}",
                  ether(average * settled), "at the average swap's gas")  # fmt: skip
    table.add_row(
        "swaps sent, shared by slots", str(swaps.count), f"{swaps.gas:,}", ether(swaps.wei), "measured"
    )
    share = Decimal(100 * saved) / Decimal(settled or 1)
    table.add_row("saved", str(saved), f"{swaps.gas * saved // max(swaps.count, 1):,}",
                  ether(average * saved), f"{share:.0f} %")  # fmt: skip
    console.print(table)
    total = f"{ether(swaps.all_wei)} ETH, paid by the platform"
    console.print(f"{swaps.reverted} swaps reverted. With {swaps.approvals} approvals: {total}.\n")
    checks.add(0 < swaps.count < settled, f"{settled} slots settled with {swaps.count} swaps")


def invariants_report(console: Console, report: dict[str, Any], checks: Checks) -> None:
    """What `manage.py invariants --json` said, line by line."""
    table = table_make("manage.py invariants", "Verdict", "Invariant", "Violations")
    for one in report["invariants"]:
        table.add_row(
            "holds" if one["holds"] else "BROKEN", one["name"], "; ".join(one["violations"])[:60] or "none"
        )
    console.print(table)
    checks.add(report["holds"] is True, f"all {len(report['invariants'])} invariants hold")


def checks_report(console: Console, checks: Checks) -> None:
    """The verdict: what failed by name, or how much was looked at."""
    for holds, what in checks.found:
        if not holds:
            console.print(f"FAILED  {what}", style="bold red", highlight=False)
    held = sum(holds for holds, _ in checks.found)
    style = "bold green" if checks.hold else "bold red"
    console.print(f"{held} of {len(checks.found)} checks hold.", style=style, highlight=False)


def table_make(title: str, *columns: str) -> Table:
    """A table in the report's style."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in columns:
        right = name in _NUMBERS
        table.add_column(name, justify="right" if right else "left")
    return table


def _price(reference: dict[str, Any], plan: PlanSpec) -> Decimal:
    """Sold coins for one whole bought coin, from the record's ratio of bought units to sold units."""
    decimals = decimals_read()
    ratio = Decimal(reference["denominator"]) / Decimal(reference["numerator"])
    return ratio.scaleb(decimals[plan.bought] - decimals[plan.sold])


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _units(text: str, decimals: int) -> int:
    return int(Decimal(text).scaleb(decimals))


def _story_units(told: Sequence[Told], funds: dict[str, str]) -> dict[tuple[str, int], int]:
    """Funds less what settled slots spent, plus what they received, per asset, in the asset's own units."""
    decimals = decimals_read()
    units: Counter[str] = Counter({code: _units(amount, decimals[code]) for code, amount in funds.items()})
    for one in told:
        for slot in one.slots:
            if slot["state"] == "settled":
                units[one.spec.sold] -= _units(slot["amount"], decimals[one.spec.sold])
                units[one.spec.bought] += _units(slot["received"], decimals[one.spec.bought])
    return {(code, decimals[code]): count for code, count in units.items()}


def decimals_read() -> dict[str, int]:
    """Each asset's decimals, by code."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT code, decimals FROM core_asset")
        return dict(cursor.fetchall())


def journal_units(email: str) -> dict[str, int]:
    """Sums of the raw entries of a person's accounts, without the running balances."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.code, sum(e.amount_units) FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id"
            " JOIN core_asset t ON t.id = a.asset_id JOIN accounts_user u ON u.id = a.owner_id"
            " WHERE u.email = %s AND a.kind IN ('available', 'held') GROUP BY t.code",
            [email],
        )
        return {code: int(units) for code, units in cursor}


def _swaps() -> Swaps:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FILTER (WHERE purpose = 'swap'),"
            " coalesce(sum(gas_used) FILTER (WHERE purpose = 'swap'), 0),"
            " coalesce(sum(gas_used * effective_gas_price_units) FILTER (WHERE purpose = 'swap'), 0),"
            " count(*) FILTER (WHERE purpose = 'swap' AND state = 'reverted'),"
            " count(*) FILTER (WHERE purpose = 'allowance'),"
            " coalesce(sum(gas_used * effective_gas_price_units), 0)"
            " FROM chain_outboundtransaction WHERE gas_used > 0 AND purpose IN ('swap', 'allowance')"
        )
        return Swaps(*map(int, cursor.fetchone()))
