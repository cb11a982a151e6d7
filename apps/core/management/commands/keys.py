"""`manage.py keys status|rotate`: under which keys the encrypted columns lie, and moving them to the first key."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core import keys


class Command(BaseCommand):
    help = (
        "Rows of each encrypted column per key id, or re-encrypt them under the first key. Never shows a key."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser("status", help="exit status 1 when a row's key is not here")
        status.add_argument("--json", action="store_true")
        rotate = actions.add_parser("rotate", help="online, in batches; safe to kill and to repeat")
        rotate.add_argument("--batch", type=int, default=keys.BATCH, help="rows per transaction")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["action"] == "status":
            self._status(as_json=options["json"])
        else:
            self._rotate(options["batch"])

    def _status(self, *, as_json: bool) -> None:
        found = keys.keys_status()
        if as_json:
            report = [
                {
                    "column": str(one.column),
                    "keyring": one.column.keyring,
                    "present": one.present,
                    "first": next(iter(one.column.keys), None),
                    "rows": one.rows,
                    "unknown": list(one.unknown),
                }
                for one in found
            ]
            self.stdout.write(json.dumps(report, indent=2))
        else:
            for one in found:
                self._show(one)
        if any(one.unknown for one in found):
            sys.exit(1)

    def _show(self, one: keys.KeyStatus) -> None:
        ring = ", ".join(one.column.keys) if one.present else "not in this process: counted, not judged"
        self.stdout.write(f"{one.column}  ({one.column.keyring}: {ring})")
        for key_id, rows in one.rows.items():
            unknown = "  UNKNOWN KEY" if key_id in one.unknown else ""
            self.stdout.write(f"  {key_id or '(no ciphertext)':<16} {rows:>9} rows{unknown}")
        if not one.rows:
            self.stdout.write("  no rows")

    def _rotate(self, batch: int) -> None:
        if batch < 1:
            raise CommandError("--batch is at least 1")
        refused = []
        for done in keys.keys_rotate(batch=batch):
            first = next(iter(done.column.keys))
            self.stdout.write(f"{done.column}: {done.moved} rows moved to {first}")
            refused += done.refused
        for column in keys.columns():
            if not column.keys:
                self.stdout.write(
                    f"{column}: skipped, {column.keyring} is not in this process; rotate where it is"
                )
        for reason in refused:
            self.stderr.write(f"left as it is: {reason}")
        if refused:
            sys.exit(1)
