"""`manage.py audit verify|seal`: does the audit log hold? Exit status 1 when it does not."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.audit import checking, sealing


class Command(BaseCommand):
    help = "Verify the audit log's chain from its first seal to its last."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        verify = actions.add_parser(
            "verify", help="Walk the whole chain; prints its head, to be noted elsewhere."
        )
        verify.add_argument(
            "--anchor",
            action="append",
            default=[],
            metavar="NUMBER:DIGEST",
            help="A head that was noted before; it must still be in the chain.",
        )
        actions.add_parser("seal", help="Seal what waits now (beat does it every few seconds).")

    def handle(self, *args: Any, **options: Any) -> None:
        del args
        if options["action"] == "seal":
            self.stdout.write(f"{sealing.records_seal_all()} sealed.")
            return
        walk = checking.chain_verify(anchors=dict(_anchor(text) for text in options["anchor"]))
        for violation in walk.violations:
            self.stdout.write(f"BROKEN  {violation}")
        if walk.violations:
            sys.exit(1)
        self.stdout.write(f"holds   {walk.position}:{walk.digest.hex()}")


def _anchor(text: str) -> tuple[int, bytes]:
    number, _, digest = text.partition(":")
    try:
        return int(number), bytes.fromhex(digest)
    except ValueError as error:
        raise CommandError(f"{text!r} is not NUMBER:DIGEST as `audit verify` prints it.") from error
