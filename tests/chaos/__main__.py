"""`make chaos`: break a running platform in every way we know, and show that the books come out the same.

`python -m tests.chaos [--only TEXT[,TEXT…]] [--world plans|money] [--smoke] [--seed N] [--patience X]`. Rows go to
`var/chaos.json` too (`--out`). Exit status 1 when a case fails; what its processes said is kept in
`var/chaos-logs/<case>`.
"""

import argparse
import json
import os
import random
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tests.support import stack as stack_module
from tests.support.stack import Stack, stack_open

if TYPE_CHECKING:
    from tests.chaos.case import Case

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name contains one of these")
    parser.add_argument("--world", choices=("plans", "money"), help="cases of one of the two worlds")
    parser.add_argument("--smoke", action="store_true", help="the few that `make test` runs")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        help="times longer to wait for what must happen: on a busy machine",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "chaos.json")
    options = parser.parse_args()
    console = Console(width=150 if not sys.stdout.isatty() else None)
    started = time.monotonic()
    stack_module.PATIENCE = options.patience
    with stack_open(ROOT / "var" / f"chaos-{os.getpid()}") as stack:
        os.environ.update({**stack.environment(keys=True), "LOG_LEVEL": "ERROR"})
        rows = _run(stack, options, console)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2))
    console.print(_table(rows))
    failed = [row for row in rows if row["verdict"] != "holds"]
    for row in failed:
        console.print(f"[red]{row['case']}[/]: {row['details']}; logs in {row['logs']}")
    minutes = (time.monotonic() - started) / 60
    console.print(
        f"{len(rows) - len(failed)} of {len(rows)} cases hold; {minutes:.1f} minutes; seed {options.seed}"
    )
    return 1 if failed or not rows else 0


def _run(stack: Stack, options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    import django

    django.setup()

    from apps.chain.models import Network
    from apps.chain.services import endpoint_add
    from tests.chaos.cases import all_cases

    assert stack.proxy is not None
    endpoint_add(network_id=Network.objects.get().pk, name="anvil", url=stack.proxy.url)
    texts = options.only.split(",")
    chosen = {
        case.name: case.money
        for case in all_cases()
        if any(text in case.name for text in texts)
        and (case.smoke or not options.smoke)
        and options.world in (None, "money" if case.money else "plans")
    }
    # Each world is played undisturbed first: what its other cases are compared with.
    baselines = {"money undisturbed", "undisturbed"}
    wanted = [
        case
        for case in all_cases()
        if case.name in chosen or (case.name in baselines and case.money in chosen.values())
    ]
    books: dict[str, Any] = {}
    rows = []
    for number, case in enumerate(wanted, 1):
        row = _play(stack, case, seed=options.seed, books=books)
        console.print(f"{number:>3}/{len(wanted)}  {row['verdict']:<6} {row['seconds']:>6.1f} s  {case.name}")
        rows.append(row)
    return rows


def _play(stack: Stack, case: "Case", *, seed: int, books: dict[str, Any]) -> dict[str, Any]:
    from django.db import connection

    from tests.chaos.cases import failpoint_names
    from tests.chaos.money import Money, money_begin, money_books, money_check, money_make, money_wait
    from tests.chaos.world import (
        endpoints_heal,
        invariants_broken,
        world_begin,
        world_books,
        world_make,
        world_report,
        world_wait,
    )

    assert stack.proxy is not None
    started = time.monotonic()
    wrong: list[str] = []
    logs = ""
    try:
        stack.proxy.met = 0
        stack.sandbox.market.refresh_feeds()
        stack.failpoints_hold(failpoint_names())
        endpoints_heal()
        world = money_make(stack) if case.money else world_make(stack)
        failpoints = {**case.failpoints, **(case.arm(stack, world) if case.arm else {})}
        stack.roles_start(failpoints=failpoints)
        if case.fires and not case.late:
            stack.failpoint_release(case.fires)
        if isinstance(world, Money):
            money_begin(stack, world)
        else:
            world_begin(world)
        if case.during:
            case.during(stack, world, random.Random(f"{seed} {case.name}"))
        if isinstance(world, Money):
            money_wait(world)
        else:
            world_wait(world, but=case.but)
        _faults_clear(stack)
        if case.faulty and not stack.proxy.met:
            wrong.append("the fault was not met: nobody asked the node")
        if case.fires and not stack.fired(case.fires):
            wrong.append(f"nobody died at {case.fires}")
        found = money_books(world) if isinstance(world, Money) else world_books(world)
        wanted = books.setdefault(type(world).__name__, found)
        wrong += _differences(wanted, found, but=case.but)
        if isinstance(world, Money):
            wrong += money_check(stack, world)
        wrong += invariants_broken()
        wrong += case.check(stack, world) if case.check else []
        wrong += stack.trouble
    except Exception as error:  # noqa: BLE001 — a case that breaks is a verdict, and the next one still runs
        wrong.append(f"{type(error).__name__}: {error}")
    finally:
        if wrong:
            kept = ROOT / "var" / "chaos-logs" / re.sub(r"\W+", "-", case.name)
            stack.logs_keep(kept)
            (kept / "state.txt").write_text("\n".join([*wrong, "", world_report()]))
            logs = str(kept.relative_to(ROOT))
        connection.close()
        _faults_clear(stack)
        if wrong:
            # Whatever state its processes are in, the next case begins with others.
            stack.roles_stop()
        stack.failpoints_hold(failpoint_names())
        if stack.sandbox.anvil is not None:
            stack.sandbox.anvil.mining_interval(seconds=1)
    return {
        "fault": case.fault,
        "case": case.name,
        "injected": case.how,
        "invariant": case.invariant,
        "verdict": "BROKEN" if wrong else "holds",
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "details": wrong[:5],
        "logs": logs,
    }


def _faults_clear(stack: Stack) -> None:
    for proxy in (stack.proxy, stack.proxy_second):
        if proxy is not None:
            proxy.clear()


def _differences(expected: dict[str, Any], found: dict[str, Any], *, but: int) -> list[str]:
    """Where the books differ; with `but` poisoned plans only the slots of the others are compared."""
    if but:
        names = {slot[0] for slot in found["slots"]}
        wanted = [slot for slot in expected["slots"] if slot[0] in names]
        same = wanted == found["slots"] and len(names) == len(expected["slots"]) - but
        return [] if same else [f"slots: expected {wanted}, found {found['slots']}"]
    return [
        f"{key}: expected {expected[key]}, found {found[key]}"
        for key in expected
        if expected[key] != found[key]
    ]


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="What was broken, and what held", title_justify="left", show_lines=False)
    for column in ("Fault", "How it was injected", "What must hold", "Verdict", "Seed", "Seconds"):
        table.add_column(column, justify="right" if column in {"Seed", "Seconds"} else "left")
    for row in rows:
        colour = "green" if row["verdict"] == "holds" else "red"
        table.add_row(
            row["fault"],
            row["injected"],
            row["invariant"],
            f"[{colour}]{row['verdict']}[/]",
            str(row["seed"]),
            f"{row['seconds']:.1f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
