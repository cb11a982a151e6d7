"""`manage.py deadletters list|retry`: what was buried, why, and digging it up again."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core import work


class Command(BaseCommand):
    help = "List buried work items, or retry them from the step in which they were buried."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="what is buried, newest first")
        listing.add_argument("--kind", help="only this kind of work, e.g. plans.price")
        listing.add_argument("--limit", type=int, default=100)
        listing.add_argument("--json", action="store_true")
        retry = actions.add_parser("retry", help="let buried items go on")
        retry.add_argument("kind", help="the kind of work, e.g. plans.price")
        retry.add_argument("ids", nargs="*", help="which ones; none means all of the kind")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["action"] == "list":
            self._list(options["kind"], options["limit"], as_json=options["json"])
        else:
            self._retry(options["kind"], options["ids"])

    def _list(self, kind: str | None, limit: int, *, as_json: bool) -> None:
        rows = [
            {
                "kind": found.name,
                "id": str(item.pk),
                "buried_at": item.buried_at.isoformat() if item.buried_at else None,
                "attempts": item.attempts,
                "error": item.last_error,
            }
            for found, item in work.dead_letters(name=kind, limit=limit)
        ]
        if as_json:
            self.stdout.write(json.dumps(rows, indent=2))
            return
        for row in rows:
            self.stdout.write(
                f"{row['buried_at']}  {row['kind']:<16} {row['id']}  after {row['attempts']} tries: {row['error']}"
            )
        self.stdout.write(f"{len(rows)} dead letters" if rows else "no dead letters")

    def _retry(self, kind: str, ids: list[str]) -> None:
        found = {known.name: known for known in work.kinds()}.get(kind)
        if found is None:
            names = ", ".join(known.name for known in work.kinds())
            raise CommandError(f"unknown kind {kind!r}; one of: {names}")
        self.stdout.write(f"{work.retry(found, ids=ids or None)} items go on")
