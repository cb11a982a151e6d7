"""`manage.py chain`: wallets, networks, and going on after a halt."""

import getpass
import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.chain import abi, derivation, services
from apps.chain.failover import THRESHOLD
from apps.chain.models import Network, Recheck, RecheckState, Wallet
from apps.core.errors import DomainError


class Command(BaseCommand):
    help = "Wallets and networks. A private key is read from standard input, never from an argument."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        wallet = actions.add_parser("wallet", help="create or import a wallet")
        wallet.add_argument("how", choices=["create", "import"])
        roles = [role for role in Wallet.Role.values if role != Wallet.Role.DEPOSIT]
        wallet.add_argument("--role", choices=roles, default=Wallet.Role.SWAP)
        wallet.add_argument("--name", default="")
        actions.add_parser("make-deposit-key", help="a new extended key pair for deposit addresses")
        networks = actions.add_parser("networks", help="networks, their endpoints and health")
        networks.add_argument("--json", action="store_true")
        resume = actions.add_parser("resume", help="go on after a halt with the chain as it is now")
        resume.add_argument("network", help="name or chain id")
        actions.add_parser("rechecks", help="final transactions that a fork may have taken back")

    def handle(self, *args: Any, **options: Any) -> None:
        del args
        try:
            {
                "wallet": self._wallet,
                "make-deposit-key": self._make_deposit_key,
                "networks": self._networks,
                "resume": self._resume,
                "rechecks": self._rechecks,
            }[options["action"]](options)
        except DomainError as error:
            raise CommandError(error.detail) from None

    def _wallet(self, options: dict[str, Any]) -> None:
        if options["how"] == "create":
            wallet = services.wallet_create(role=options["role"], name=options["name"])
        else:
            wallet = services.wallet_import(key=_key_read(), role=options["role"], name=options["name"])
        self.stdout.write(f"{abi.checksum(wallet.address)} {wallet.role} {wallet.pk}")

    def _make_deposit_key(self, options: dict[str, Any]) -> None:
        del options
        xpub, xprv = derivation.account_make()
        self.stdout.write(f"# every role\nDEPOSIT_XPUB={xpub}\n# the signer alone; keep a copy offline\n")
        self.stdout.write(f"SIGNER_DEPOSIT_XPRV={xprv}")

    def _networks(self, options: dict[str, Any]) -> None:
        found = [
            _describe(network) for network in Network.objects.prefetch_related("endpoints").order_by("name")
        ]
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2))
            return
        for network in found:
            state = f"HALTED ({network['halted_reason']})" if network["halted_at"] else "running"
            self.stdout.write(
                f"{network['name']} ({network['chain_id']}): {state}, block {network['watched_block']}"
            )
            for row in network["endpoints"]:
                self.stdout.write(
                    f"  {row['name']}: {row['health']}, block {row['last_block']}, {row['latency_ms']} ms"
                    f" {row['last_error']}"
                )

    def _resume(self, options: dict[str, Any]) -> None:
        wanted = options["network"]
        network = (
            Network.objects.filter(chain_id=int(wanted))
            if wanted.isdigit()
            else Network.objects.filter(name=wanted)
        ).first()
        if network is None:
            raise CommandError(f"no network {wanted}")
        if network.halted_at is None:
            self.stdout.write(f"{network} is not halted")
            return
        doubtful = services.network_resume(network_id=network.pk, actor=getpass.getuser())
        self.stdout.write(f"{network} resumed; final transactions that are looked for: {len(doubtful)}")
        for row in doubtful:
            self.stdout.write(f"  {row.reference}, {row.state} in block {row.block_number}")

    def _rechecks(self, options: dict[str, Any]) -> None:
        del options
        rows = Recheck.objects.select_related("network", "transaction").exclude(state=RecheckState.CLOSED)
        for row in rows.order_by("network__name", "id"):
            self.stdout.write(
                f"{row.pk} {row.network} {row.transaction.reference}: {row.get_state_display()}"
                f"{', sent again' if row.reopened_at else ''} {row.last_error}".rstrip()
            )
        if not rows:
            self.stdout.write("nothing is looked for")


def _key_read() -> bytes:
    """32 bytes in hex from standard input; never echoed, never repeated in an error."""
    text = getpass.getpass("private key (hex): ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        return bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        raise CommandError("a private key is 64 hex digits") from None


def _describe(network: Network) -> dict[str, Any]:
    return {
        "name": network.name,
        "chain_id": network.chain_id,
        "confirmations": network.confirmations,
        "watched_block": network.watched_block,
        "halted_at": network.halted_at.isoformat() if network.halted_at else None,
        "halted_reason": network.halted_reason,
        "endpoints": [
            {
                "name": row.name,
                "enabled": row.enabled,
                "health": "resting"
                if row.failures >= THRESHOLD
                else "healthy"
                if row.enabled
                else "disabled",
                "last_block": row.last_block,
                "latency_ms": row.latency_ms,
                "last_error": row.last_error,
            }
            for row in sorted(network.endpoints.all(), key=lambda row: row.priority)
        ],
    }
