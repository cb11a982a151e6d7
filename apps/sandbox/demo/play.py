"""The demo's second half, in a process whose Django knows the running sandbox: people, journey, report."""

import json
import subprocess
import sys
import time
from typing import Any
from uuid import UUID

from rich.console import Console

from apps.core import clock
from apps.sandbox.demo import money_report, report
from apps.sandbox.demo.accounts import everything_told, people_sign_up
from apps.sandbox.demo.accounts_report import accounts_report
from apps.sandbox.demo.client import Person
from apps.sandbox.demo.journey import Journey
from apps.sandbox.demo.live import Live, Watch
from apps.sandbox.demo.money import Purse, money_in, money_out, reserves_proved
from apps.sandbox.demo.run import MAIL_DIR
from apps.sandbox.demo.scenario import BERLIN, PlanSpec, Scenario, scenario_make
from apps.sandbox.demo.screen import WIDTH, Screen
from apps.sandbox.market import Market
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.paths import ROOT_DIR
from apps.sandbox.runtime.rpc import Rpc
from apps.sandbox.runtime.status import SandboxStatus


def demo_play(*, status: SandboxStatus, days: int) -> bool:
    """Play the story of `days` days against the running sandbox; whether everything holds."""
    if status.deployment is None:
        raise SandboxError("the sandbox has no chain")
    console = Console(width=WIDTH, highlight=False)
    scenario = scenario_make(now=clock.now(), days=days)
    journey_started = time.monotonic()
    plans: dict[UUID, PlanSpec] = {}
    screen = Screen(console=console, scenario=scenario, plans=plans)

    def show() -> None:
        screen.prices = journey.prices
        screen.show()

    market = Market(Rpc(status.urls["rpc"]), status.deployment)
    journey = Journey(scenario=scenario, market=market, show=show)
    journey.depart()
    people = people_sign_up(
        journey, scenario.people, url=status.urls["api"], mail_dir=status.directory / MAIL_DIR
    )
    by_name = {person.name: person for person in people}
    watcher = next(person for person in people if person.app.second_factor)
    live = Live(url=status.urls["stream"], app=watcher.app)
    live.start()
    console.print(
        f"{' and '.join(by_name)} signed up with the codes of their mails after"
        f" {time.monotonic() - journey_started:.1f} s."
    )
    purses = money_in(journey, market, list(zip(people, scenario.people, strict=True)))
    _introduce(console, scenario, seconds=time.monotonic() - journey_started)
    for spec in scenario.plans:
        plans[UUID(by_name[spec.owner].plan_create(spec)["id"])] = spec
    with screen:
        journey.travel_through()
    seconds = time.monotonic() - journey_started
    console.print(f"{days} days in {seconds:.0f} s, {journey.steps} instants at which something was due.\n")
    holds = _report(console, scenario, people, plans, journey, purses, Watch(watcher, live))
    live.stop()
    for person in people:
        person.app.close()
    return holds


def _introduce(console: Console, scenario: Scenario, *, seconds: float) -> None:
    for person in scenario.people:
        funds = ", ".join(f"{amount} {asset}" for asset, amount in person.funds.items())
        console.print(f"{person.name} sent {funds} on chain.")
    console.print(f"All of it was seen there, confirmed, credited and collected after {seconds:.1f} s.")
    first, last = scenario.start.astimezone(BERLIN), scenario.end.astimezone(BERLIN)
    console.print(
        f"From {first:%d %b %Y} to {last:%d %b %Y}; the clocks change on {scenario.changes_at:%d %b %Y}.\n"
    )


def _report(
    console: Console,
    scenario: Scenario,
    people: list[Person],
    plans: dict[UUID, PlanSpec],
    journey: Journey,
    purses: dict[str, Purse],
    watch: Watch,
) -> bool:
    by_name = {person.name: person for person in people}
    told = [
        report.Told(spec, by_name[spec.owner].plan(str(plan_id)), by_name[spec.owner].slots(str(plan_id)))
        for plan_id, spec in plans.items()
    ]
    checks = report.Checks()
    report.outcomes_report(console, told, scenario, checks)
    report.decision_report(console, people, told, checks)
    report.calendar_report(console, told, scenario, checks)
    report.balances_report(console, people, told, scenario, checks)
    report.gas_report(console, told, checks)
    started = time.monotonic()
    money_out(journey, list(purses.values()))
    console.print(f"A day later all of it was withdrawn, in {time.monotonic() - started:.0f} s.\n")
    log = everything_told(journey, watch)
    money_report.in_report(console, list(purses.values()), told, checks)
    money_report.out_report(console, list(purses.values()), told, checks)
    money_report.sweeps_report(console, checks)
    accounts_report(console, people, watch, log, checks)
    journey.rest()
    money_report.reserves_report(console, reserves_proved(journey, people[0]), checks)
    report.invariants_report(console, _invariants(), checks)
    report.checks_report(console, checks)
    return checks.hold


def _invariants() -> dict[str, Any]:
    """The real command in a process of its own, as an operator runs it."""
    command = [sys.executable, str(ROOT_DIR / "manage.py"), "invariants", "--json"]
    done = subprocess.run(command, cwd=ROOT_DIR, capture_output=True, text=True, check=False, timeout=120)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise SandboxError(f"manage.py invariants failed:\n{done.stderr[-2000:]}") from error
    if done.returncode != (0 if found["holds"] else 1):
        raise SandboxError(f"manage.py invariants ended with {done.returncode}")
    return found
