"""`manage.py platform …`: the state, the kill switches, and what the signer may sign for deposits and withdrawals."""

import getpass
import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.chain.models import Network
from apps.core import clock
from apps.core.errors import DomainError, Retryable
from apps.core.models import Asset
from apps.deposits.setup import collecting_allow
from apps.launch.domain import State
from apps.launch.states import platform_read, state_set
from apps.launch.switches import switch_allow, switch_stop, switches_read
from apps.treasury.models import Activity
from apps.withdrawals.models import WithdrawalRule
from apps.withdrawals.services import payouts_allow


class Command(BaseCommand):
    help = "Look at the platform's state and switches, and change them. Acts within a second, everywhere."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser("status", help="the state, since when, and what is stopped")
        status.add_argument("--json", action="store_true")
        change = actions.add_parser("set", help="change the state")
        change.add_argument("state", choices=State.values)
        change.add_argument("--message", default="", help="what everybody is told")
        change.add_argument("--minutes", type=int, help="when it is expected to end")
        for name in ("stop", "allow"):
            switch = actions.add_parser(name, help=f"{name} buying, withdrawing or signing up")
            switch.add_argument("activity", choices=[value.replace("_", "-") for value in Activity.values])
            self._said(switch)
        self._said(change)
        collecting = actions.add_parser(
            "collecting-allow", help="let the signer collect deposits; again after each new token"
        )
        collecting.add_argument("--network", help="its name; all networks unless given")
        payouts = actions.add_parser(
            "payouts-allow", help="let the signer pay withdrawals out; again after each new token"
        )
        payouts.add_argument("--asset", help="its code; every asset with a withdrawal rule unless given")

    @staticmethod
    def _said(parser: Any) -> None:
        parser.add_argument("--reason", required=True, help="why, for operators")
        parser.add_argument("--actor", default=f"command line ({getpass.getuser()})", help="who does this")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action'].replace('-', '_')}")(options)
        except DomainError as error:
            raise CommandError(error.detail) from error
        except Retryable as error:
            raise CommandError(str(error)) from error

    def _status(self, options: dict[str, Any]) -> None:
        platform = platform_read()
        switches = switches_read()
        if options["json"]:
            report = {
                "state": platform.state,
                "since": platform.since.isoformat() if platform.since else None,
                "message": platform.message,
                "until": platform.until.isoformat() if platform.until else None,
                "sign_up": platform.sign_up,
                "stopped": {
                    str(activity): [
                        {
                            "asset": one.asset.code if one.asset else None,
                            "source": one.source,
                            "reason": one.reason,
                            "actor": one.actor,
                            "since": one.created_at.isoformat(),
                        }
                        for one in pauses
                    ]
                    for activity, pauses in switches
                },
            }
            self.stdout.write(json.dumps(report, indent=2))
            return
        since = f" since {platform.since:%Y-%m-%d %H:%M:%S} UTC" if platform.since else ""
        self.stdout.write(f"{platform.state}{since}; sign-up: {platform.sign_up}")
        for activity, pauses in switches:
            stopped = "stopped" if any(one.asset_id is None for one in pauses) else "allowed"
            self.stdout.write(f"{activity.label:<12} {stopped}")
            for one in pauses:
                what = one.asset.code if one.asset else "everything"
                self.stdout.write(f"  {what}, {one.source}, {one.actor}: {one.reason}")

    def _set(self, options: dict[str, Any]) -> None:
        minutes = options["minutes"]
        row = state_set(
            state=State(options["state"]),
            reason=options["reason"],
            actor=options["actor"],
            message=options["message"],
            until=clock.now() + timedelta(minutes=minutes) if minutes is not None else None,
        )
        self.stdout.write(f"{row.state} (change {row.number})")

    def _stop(self, options: dict[str, Any]) -> None:
        self._switched(switch_stop, options, "stopped")

    def _allow(self, options: dict[str, Any]) -> None:
        self._switched(switch_allow, options, "allowed by operators again")

    def _switched(self, switch: Any, options: dict[str, Any], done: str) -> None:
        activity = Activity(options["activity"].replace("-", "_"))
        switch(activity=activity, reason=options["reason"], actor=options["actor"])
        self.stdout.write(f"{activity.label}: {done}")

    def _collecting_allow(self, options: dict[str, Any]) -> None:
        networks = Network.objects.order_by("name")
        if options["network"]:
            networks = networks.filter(name=options["network"])
        if not networks:
            raise CommandError("There is no such network.")
        for network in networks:
            collecting_allow(network_id=network.pk)
            self.stdout.write(f"{network.name}: deposits may be collected")

    def _payouts_allow(self, options: dict[str, Any]) -> None:
        rules = WithdrawalRule.objects.values("asset_id")
        assets = Asset.objects.order_by("code")
        assets = assets.filter(code=options["asset"]) if options["asset"] else assets.filter(pk__in=rules)
        if not assets:
            raise CommandError(
                "There is no such asset." if options["asset"] else "No asset has a withdrawal rule."
            )
        for asset in assets:
            payouts_allow(asset_id=asset.pk)
            self.stdout.write(f"{asset.code}: withdrawals may be paid out")
