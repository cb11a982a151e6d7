"""`manage.py invariants [--json]`: prove on live data what must always hold. Exit status 1 when something does not."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from apps.core import invariants


class Command(BaseCommand):
    help = "Check every invariant against the database and the chain."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="a machine-readable report on standard output"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        verdicts = invariants.run_all()
        broken = [verdict for verdict in verdicts if not verdict.holds]
        if options["json"]:
            report = {
                "holds": not broken,
                "invariants": [
                    {"name": v.name, "holds": v.holds, "violations": list(v.violations), "facts": v.facts}
                    for v in verdicts
                ],
            }
            self.stdout.write(json.dumps(report, indent=2, default=str))
        else:
            for verdict in verdicts:
                facts = ", ".join(f"{key} {value}" for key, value in verdict.facts.items())
                self.stdout.write(f"{'holds ' if verdict.holds else 'BROKEN'}  {verdict.name}  ({facts})")
                for violation in verdict.violations:
                    self.stdout.write(f"        {violation}")
        if broken:
            sys.exit(1)
