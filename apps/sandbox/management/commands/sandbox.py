"""`manage.py sandbox up|status|mail|code|travel|deposit|fund|demo|down`: the whole platform on one machine."""

import json
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.processes import Console
from apps.sandbox.runtime.status import ENVIRONMENT_FILE, SandboxStatus, sandbox_status

# Which of the environment's variables say that a service runs elsewhere.
_SERVICES = {"DATABASE_URL": "database_url", "REDIS_URL": "redis_url", "RPC_URL": "rpc_url"}


class Command(BaseCommand):
    help = (
        "Run the whole platform on this machine: PostgreSQL, Valkey, an EVM node with Uniswap, every process."
    )
    # Most actions run before there is a database, or without one.
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("up", help="Start everything and keep it running until Ctrl-C.")
        status = actions.add_parser("status", help="What runs where; exit status 1 when nothing does.")
        status.add_argument("--json", action="store_true", help="machine-readable, on standard output")
        mail = actions.add_parser("mail", help="The newest mails to somebody: the codes of a sign-up, say.")
        mail.add_argument("--to", required=True, help="the email address")
        mail.add_argument("--count", type=int, default=1, help="how many (default: one)")
        travel = actions.add_parser("travel", help="Move the clock and the chain ahead, together.")
        _travel_arguments(travel)
        deposit = actions.add_parser(
            "deposit", help="Send tokens or coin on chain to a person's deposit address."
        )
        deposit.add_argument("--email", required=True)
        deposit.add_argument("--asset", required=True, help="USDC, WBTC, LINK, WETH or ETH")
        deposit.add_argument("--amount", required=True, help='decimal, such as "1000.50"')
        fund = actions.add_parser("fund", help="Credit a person by hand, and mint what backs it: no deposit.")
        fund.add_argument("--email", required=True)
        fund.add_argument("--asset", required=True, help="USDC, WBTC, LINK, WETH or ETH")
        fund.add_argument("--amount", required=True, help='decimal, such as "1000.50"')
        fund.add_argument("--reference", help="a second call with the same reference does nothing")
        demo = actions.add_parser("demo", help="Two simulated months of real plans on a real chain.")
        demo.add_argument(
            "--days", type=int, default=61, help="how many simulated days (default: two months)"
        )
        demo.add_argument("--keep", action="store_true", help="keep the demo's directory afterwards")
        actions.add_parser(
            "code", help="The operator's code for the admin, as an authenticator app would show it."
        )
        actions.add_parser("down", help="Stop what `up` runs, from another terminal.")
        # For the supervisor's own children.
        actions.add_parser("prepare")
        play = actions.add_parser("play")
        play.add_argument("--days", type=int, required=True)

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except SandboxError as error:
            raise CommandError(str(error)) from error

    # What may run without a database

    def _up(self, _: dict[str, Any]) -> None:
        from apps.sandbox.supervisor import Supervisor

        console = Console(stream=sys.stdout)
        with _interruptible():
            supervisor = Supervisor(_directory(), console=console, services=_services_given())
            try:
                supervisor.start()
                self._where_to_look(supervisor)
                supervisor.watch()
            except KeyboardInterrupt:
                console.line("sandbox", "stopping")
            finally:
                _deafen()
                supervisor.stop()
        console.line("sandbox", "everything has stopped; the data stays in " + str(supervisor.directory))

    def _status(self, options: dict[str, Any]) -> None:
        status = sandbox_status(_directory())
        if options["json"]:
            self.stdout.write(json.dumps(_status_report(status), indent=2))
        elif not status.running:
            self.stdout.write(f"nothing runs in {status.directory}")
        else:
            self.stdout.write(f"runs in {status.directory} (pid {status.owner_pid})")
            for name, url in sorted(status.urls.items()):
                self.stdout.write(f"  {name:<9} {url}")
            for name, pid in sorted(status.pids.items()):
                self.stdout.write(f"  {name:<9} pid {pid:<8} {'alive' if status.alive[name] else 'DEAD'}")
        if not status.running:
            sys.exit(1)

    def _code(self, _: dict[str, Any]) -> None:
        from apps.sandbox.authenticator import code_now
        from apps.sandbox.runtime.files import json_read
        from apps.sandbox.supervisor import OPERATOR_FILE

        operator = json_read(_directory() / OPERATOR_FILE) or {}
        if not operator.get("totp_secret"):
            raise CommandError("this sandbox's operator has no second factor of the sandbox's own")
        self.stdout.write(code_now(operator["totp_secret"]))

    def _down(self, _: dict[str, Any]) -> None:
        status = self._running()
        if status.owner_pid is None:
            raise CommandError("nobody owns the sandbox")
        owner = os.pidfd_open(status.owner_pid)
        try:
            signal.pidfd_send_signal(owner, signal.SIGTERM)
            _wait_readable(owner, seconds=60)
        finally:
            os.close(owner)
        self.stdout.write("stopped")

    def _demo(self, options: dict[str, Any]) -> None:
        from apps.sandbox.demo.run import demo_run

        if not 4 <= options["days"] <= 120:
            raise CommandError("--days is from 4 to 120")
        with _interruptible():
            status = demo_run(days=options["days"], keep=options["keep"], quiet=_deafen)
        if status:
            sys.exit(status)

    # What talks to the running sandbox's database

    def _travel(self, options: dict[str, Any]) -> None:
        from apps.sandbox.travel import platform_travel, platform_travel_by

        self._running()
        if options["to"] is not None:
            reached = platform_travel(to=options["to"])
        else:
            parts = {name: options[name] or 0 for name in ("days", "hours", "seconds")}
            reached = platform_travel_by(by=timedelta(**parts))
        self.stdout.write(f"it is {reached:%Y-%m-%d %H:%M:%S} UTC")

    def _mail(self, options: dict[str, Any]) -> None:
        from apps.mail.selectors import letters_received

        self._running()
        letters = letters_received(to=options["to"], limit=max(1, options["count"]))
        if not letters:
            raise CommandError(
                f"no mail to {options['to']} is kept here (MAIL_TRANSPORT=database keeps them)"
            )
        for letter in reversed(letters):
            self.stdout.write(f"To: {letter.to}\nSubject: {letter.subject}\n\n{letter.text}")

    def _deposit(self, options: dict[str, Any]) -> None:
        from apps.core.errors import DomainError, Terminal
        from apps.sandbox.outside import person_deposit

        try:
            paid = person_deposit(
                status=self._running(),
                email=options["email"],
                asset_code=options["asset"],
                amount=options["amount"],
            )
        except DomainError as error:
            raise CommandError(error.detail) from error
        except Terminal as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{paid.sender} sent {options['amount']} {options['asset']} to {paid.receiver},"
            f" the deposit address of {options['email']}: {paid.transaction_hash}\n"
            "GET /api/v1/deposits shows it arrive, confirm and be credited."
        )

    def _fund(self, options: dict[str, Any]) -> None:
        from apps.core.errors import DomainError, Terminal
        from apps.sandbox.faucet import person_fund

        try:
            funded = person_fund(
                status=self._running(),
                email=options["email"],
                asset_code=options["asset"],
                amount=options["amount"],
                reference=options["reference"],
            )
        except DomainError as error:
            raise CommandError(error.detail) from error
        except Terminal as error:
            raise CommandError(str(error)) from error
        what = f"{options['amount']} {funded.asset_code} for {options['email']} ({funded.reference})"
        self.stdout.write(f"already credited: {what}" if funded.repeated else f"minted and credited: {what}")

    def _prepare(self, _: dict[str, Any]) -> None:
        from apps.sandbox.prepare import database_prepare

        database_prepare(self._running())

    def _play(self, options: dict[str, Any]) -> None:
        from apps.sandbox.demo.play import demo_play
        from apps.sandbox.demo.run import BROKEN

        # Ctrl-C reaches the whole terminal; the supervisor answers it and asks this process to end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        if not demo_play(status=self._running(), days=options["days"]):
            sys.exit(BROKEN)

    # Shared

    def _running(self) -> SandboxStatus:
        status = sandbox_status(_directory())
        if not status.running:
            raise CommandError(f"nothing runs in {status.directory}; start it with `make up`")
        return status

    def _where_to_look(self, supervisor: Any) -> None:
        urls, operator = supervisor.urls, supervisor.operator
        lines = [
            ("API", urls["api"] + "/api/v1/"),
            ("docs", urls["api"] + "/api/v1/docs"),
            ("admin", f"{urls['api']}/admin/   {operator['email']}   {operator['password']}"),
            ("mails", f"{urls['api']}/admin/mail/letter/   or: manage.py sandbox mail --to you@example.com"),
            ("stream", urls["stream"] + "/api/v1/stream" if "stream" in urls else ""),
            ("Flower", urls.get("flower", "")),
            ("RPC", urls["rpc"]),
            ("database", urls["database"]),
            ("broker", urls["broker"]),
            ("data", str(supervisor.directory)),
        ]
        self.stdout.write("")
        for name, value in lines:
            self.stdout.write(f"  {name:<9} {value}")
        self.stdout.write(
            "\n  In another terminal:\n"
            f"    curl -sS {urls['api']}/api/v1/auth/sign-up -H 'Content-Type: application/json' \\\n"
            """      -d '{"email": "you@example.com", "password": "plough-Ganymede-46"}'\n"""
            "    manage.py sandbox mail --to you@example.com      # the code; then POST /api/v1/auth/verify\n"
            "    manage.py accounts create-key --email you@example.com --scopes all\n"
            "    manage.py sandbox deposit --email you@example.com --asset USDC --amount 1000\n"
            "    manage.py sandbox code          # the second factor of the admin's login\n"
            "    manage.py sandbox travel --days 7\n"
            "    manage.py invariants\n"
            "\n  Ctrl-C stops everything.\n"
        )
        self.stdout.flush()


def _travel_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--to", type=_instant, help="an instant, such as 2027-03-28T09:00:00+02:00 or 2027-03-28"
    )
    for unit in ("days", "hours", "seconds"):
        parser.add_argument(f"--{unit}", type=int)


def _instant(text: str) -> datetime:
    """An ISO 8601 instant; without an offset it is UTC."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _directory() -> Path:
    return Path(settings.SANDBOX_DIR)


def _services_given() -> dict[str, str]:
    """Services that the environment names; what a crashed sandbox's file brought along does not count."""
    file = _directory() / ENVIRONMENT_FILE
    stale = file.read_text().splitlines() if file.is_file() else []
    return {
        argument: os.environ[name]
        for name, argument in _SERVICES.items()
        if os.environ.get(name) and f"{name}={os.environ[name]}" not in stale
    }


def _status_report(status: SandboxStatus) -> dict[str, Any]:
    return {
        "running": status.running,
        "directory": str(status.directory),
        "pid": status.owner_pid,
        "urls": status.urls,
        "processes": {
            name: {"pid": pid, "alive": status.alive[name]} for name, pid in sorted(status.pids.items())
        },
    }


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and a closed terminal are taken like Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    # A shell's background job starts with SIGINT ignored.
    signal.signal(signal.SIGINT, interrupt)
    yield


def _deafen() -> None:
    """From here on nothing interrupts: what stops, stops whole. It is bounded by the graces given."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _wait_readable(descriptor: int, *, seconds: float) -> None:
    import select

    if not select.select([descriptor], [], [], seconds)[0]:
        raise CommandError(f"it still runs after {seconds:.0f} s")
