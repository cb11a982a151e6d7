"""`manage.py deposits`: how far the monitor is, and reading blocks again."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.chain.models import Network
from apps.core.errors import DomainError
from apps.deposits.models import Rescan
from apps.deposits.monitor import Lag, lags
from apps.deposits.rescans import rescan_request


class Command(BaseCommand):
    help = "The deposit monitor: how far it is, and reading blocks again."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser("status", help="per network: head, what was read, lag")
        status.add_argument("--json", action="store_true")
        rescan = actions.add_parser("rescan", help="read a range of blocks again; safe at any time")
        rescan.add_argument("--network", required=True, help="name or chain id")
        rescan.add_argument("--from", type=int, required=True, dest="from_block", metavar="BLOCK")
        rescan.add_argument("--to", type=int, dest="to_block", metavar="BLOCK", help="default: the head")
        rescan.add_argument("--reason", default="asked for on the command line")

    def handle(self, *args: Any, **options: Any) -> None:
        del args
        try:
            {"status": self._status, "rescan": self._rescan}[options["action"]](options)
        except DomainError as error:
            raise CommandError(error.detail) from None

    def _status(self, options: dict[str, Any]) -> None:
        found = [_describe(lag) for lag in lags()]
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2))
            return
        for one in found:
            self.stdout.write(
                f"{one['network']}: {one['state']}, head {one['head_block']}, scanned {one['scanned_block']},"
                f" lag {one['lag_blocks']} blocks, {one['lag_seconds']:.0f} s;"
                f" {one['second_blocks']} final blocks to be read again {one['error']}".rstrip()
            )
            for rescan in one["rescans"]:
                self.stdout.write(
                    f"  rescan {rescan['from_block']} to {rescan['to_block']}: at {rescan['next_block']},"
                    f" {rescan['found']} found ({rescan['reason']})"
                )

    def _rescan(self, options: dict[str, Any]) -> None:
        wanted = options["network"]
        named = {"chain_id": int(wanted)} if wanted.isdigit() else {"name": wanted}
        network = Network.objects.filter(**named).first()
        if network is None:
            raise CommandError(f"no network {wanted}")
        row = rescan_request(
            network_id=network.pk,
            from_block=options["from_block"],
            to_block=options["to_block"],
            reason=options["reason"],
        )
        self.stdout.write(f"{row.pk}: blocks {row.from_block} to {row.to_block} of {network} are read again")


def _describe(lag: Lag) -> dict[str, Any]:
    waiting = Rescan.objects.filter(network=lag.network, state="open").order_by("created_at")
    return {
        "network": lag.network.name,
        "state": lag.state,
        "head_block": lag.head_block,
        "scanned_block": lag.scanned_block,
        "lag_blocks": lag.lag_blocks,
        "lag_seconds": lag.lag_seconds,
        "second_blocks": lag.second_blocks,
        "error": lag.error,
        "rescans": [
            {
                "from_block": row.from_block,
                "to_block": row.to_block,
                "next_block": row.next_block,
                "found": row.found,
                "reason": row.reason,
            }
            for row in waiting
        ],
    }
