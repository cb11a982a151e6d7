"""`make bench`: each figure beside its baseline of the same run. `python -m tests.bench [--only TEXT] [--quick]`.

Results go to `var/bench.json` too (`--out`). Exit status 1 when a benchmark could not run; `met` says the rest.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.support.stack import ROLES, Stack, stack_open

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", help="benchmarks whose name contains this")
    parser.add_argument(
        "--quick", action="store_true", help="few rows, one run: shows that it runs, no figure"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "bench.json")
    options = parser.parse_args()
    console = Console(width=150 if not sys.stdout.isatty() else None)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    roles = (*ROLES, "background")
    with stack_open(ROOT / "var" / f"bench-{os.getpid()}", fsync=True, roles=roles) as stack:
        os.environ.update({**stack.environment(keys=True), "LOG_LEVEL": "ERROR"})
        import django

        django.setup()
        for name, benchmark in _benchmarks(stack, quick=options.quick):
            if options.only not in name:
                continue
            console.print(f"… {name}")
            try:
                rows += benchmark()
            except Exception as error:  # noqa: BLE001 — said, counted, and the next one still runs
                failed.append(f"{name}: {type(error).__name__}: {error}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2))
    console.print(_table(rows))
    for line in failed:
        console.print(f"[red]did not run[/] {line}")
    return 1 if failed or not rows else 0


def _benchmarks(stack: Stack, *, quick: bool) -> list[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    from tests.bench import (
        api,
        audit,
        claiming,
        deposits,
        engine,
        ledger,
        mail,
        mainjob,
        scan,
        signin,
        stream,
        tokens,
        withdrawals,
    )

    runs = 1 if quick else RUNS

    def with_roles(benchmark: Callable[[], list[dict[str, Any]]]) -> Callable[[], list[dict[str, Any]]]:
        def run() -> list[dict[str, Any]]:
            stack.roles_start()
            try:
                return benchmark()
            finally:
                stack.roles_stop()

        return run

    found: list[tuple[str, Callable[[], list[dict[str, Any]]]]] = [
        (
            "claiming",
            lambda: claiming.run(
                stack, idle=2_000 if quick else 99_000, due=200 if quick else 1_000, runs=runs
            ),
        ),
        ("audit", lambda: audit.run(records=100 if quick else 2_000, runs=runs)),
        ("engine", with_roles(lambda: engine.run(stack, items=500 if quick else 20_000, runs=runs))),
        (
            "main job",
            lambda: mainjob.run(
                stack,
                plans=40 if quick else 10_000,
                classic_plans=8 if quick else 60,
                instant_plans=8 if quick else 150,
                runs=runs,
            ),
        ),
        ("memory", with_roles(lambda: claiming.memory(stack, due=500 if quick else 10_000))),
    ]
    found.append(("access token", lambda: tokens.run(checks=100 if quick else 10_000, runs=runs)))
    found.append(
        (
            "api",
            lambda: api.run(
                stack,
                people=50 if quick else 2_000,
                assets=5 if quick else 50,
                each=4 if quick else 70,
                runs=runs,
            ),
        )
    )
    found.append(("sign-in", lambda: signin.run(stack, each=3 if quick else 40, runs=runs)))
    found.append(
        (
            "stream",
            lambda: stream.run(
                stack,
                connections=50 if quick else 1_000,
                rounds=2 if quick else 15,
                singles=5 if quick else 200,
            ),
        )
    )
    found.append(("mail", lambda: mail.run(messages=100 if quick else 500, runs=runs)))
    if not quick:
        found.append(("withdrawals", with_roles(lambda: withdrawals.run(stack, count=1_000, runs=runs))))
        found.insert(0, ("ledger", ledger.run))
        found.append(("scan", scan.run))
    # Last: it leaves a network of its own behind, and the others expect one.
    found.append(("deposits", lambda: deposits.run(count=200 if quick else deposits.DEPOSITS, runs=runs)))
    return found


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Medians; each beside its baseline of the same run", title_justify="left")
    for column in ("What", "Ours", "Baseline", "Floor", "Unit", "Ratio", "Goal", "Met"):
        table.add_column(
            column, justify="right" if column in {"Ours", "Baseline", "Floor", "Ratio"} else "left"
        )
    for row in rows:
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row["met"]]
        cells = [row[key] for key in ("name", "ours", "baseline", "floor", "unit", "ratio", "goal")]
        table.add_row(*["" if cell is None else str(cell) for cell in cells], met)
    return table


if __name__ == "__main__":
    sys.exit(main())
