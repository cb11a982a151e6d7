"""`manage.py accounts create-user|create-key|sessions|sign-out`: people, their keys and their sessions."""

import sys
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.domain import Scope
from apps.accounts.selectors import user_by_email
from apps.accounts.services import api_key_create, user_create
from apps.accounts.tokens.models import EndReason
from apps.accounts.tokens.selectors import sessions_live
from apps.accounts.tokens.services import session_revoke, sessions_revoke
from apps.core import clock
from apps.core.errors import DomainError


class Command(BaseCommand):
    help = "Create people and API keys; list and end sessions."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        user = actions.add_parser("create-user", help="Create a person.")
        user.add_argument("--email", required=True)
        user.add_argument("--staff", action="store_true", help="May use the admin.")
        user.add_argument(
            "--password-stdin", action="store_true", help="Read the password from standard input."
        )
        key = actions.add_parser("create-key", help="Create an API key and print it, once.")
        key.add_argument("--email", required=True)
        key.add_argument("--scopes", required=True, nargs="+", help=f"Some of: {' '.join(Scope)}; or all.")
        key.add_argument("--name", default="command line")
        sessions = actions.add_parser("sessions", help="List where a person is signed in.")
        sessions.add_argument("--email", required=True)
        out = actions.add_parser("sign-out", help="End a person's sessions, all or one, at once.")
        out.add_argument("--email", required=True)
        out.add_argument("--session", type=UUID, help="The id that `sessions` shows; all without it.")
        key.add_argument(
            "--networks", nargs="*", default=[], help="From where it may be used (CIDR); anywhere."
        )
        key.add_argument("--days", type=int, help="For how long it may be used; for ever.")

    def handle(self, *args: Any, **options: Any) -> None:
        del args
        try:
            {
                "create-user": self._create_user,
                "create-key": self._create_key,
                "sessions": self._sessions,
                "sign-out": self._sign_out,
            }[options["action"]](options)
        except DomainError as error:
            raise CommandError(error.detail) from error

    def _create_user(self, options: dict[str, Any]) -> None:
        # Never an argument: those can be read in the list of processes.
        password = sys.stdin.readline().rstrip("\n") if options["password_stdin"] else None
        user = user_create(email=options["email"], password=password, is_staff=options["staff"])
        self.stdout.write(str(user.id))

    def _create_key(self, options: dict[str, Any]) -> None:
        scopes = [scope for given in options["scopes"] for scope in given.replace(",", " ").split()]
        user = user_by_email(email=options["email"])
        wanted = list(Scope) if scopes == ["all"] else scopes
        created = api_key_create(
            user_id=user.id,
            name=options["name"],
            scopes=wanted,
            networks=options["networks"],
            expires_at=clock.now() + timedelta(days=options["days"]) if options["days"] is not None else None,
            actor="manage.py accounts",
        )
        self.stdout.write(created.key)

    def _sessions(self, options: dict[str, Any]) -> None:
        """One line each: id, last use, address, how they showed who they are, device. The newest first."""
        for session in sessions_live(user=user_by_email(email=options["email"])).order_by(
            "-created_at", "-id"
        ):
            used = session.last_used_at.isoformat(timespec="minutes")
            factors = "+".join(session.factors) or "-"
            self.stdout.write(f"{session.id}  {used}  {session.address or '-'}  {factors}  {session.device}")

    def _sign_out(self, options: dict[str, Any]) -> None:
        user = user_by_email(email=options["email"])
        if options["session"] is None:
            ended = sessions_revoke(user_id=user.pk, reason=EndReason.SIGNED_OUT_BY_OPERATOR)
            self.stdout.write(f"{ended} ended")
            return
        session_revoke(
            user_id=user.pk, session_id=options["session"], reason=EndReason.SIGNED_OUT_BY_OPERATOR
        )
        self.stdout.write("ended")
