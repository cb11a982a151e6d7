"""`manage.py accounts create-user|create-key`: the first person and the first key of an installation."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.domain import Scope
from apps.accounts.selectors import user_by_email
from apps.accounts.services import api_key_create, user_create
from apps.core.errors import DomainError


class Command(BaseCommand):
    help = "Create people and API keys."

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

    def handle(self, *args: Any, **options: Any) -> None:
        del args
        try:
            self._create_user(options) if options["action"] == "create-user" else self._create_key(options)
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
        created = api_key_create(user_id=user.id, name=options["name"], scopes=wanted)
        self.stdout.write(created.key)
