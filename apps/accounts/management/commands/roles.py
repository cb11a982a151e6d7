"""`manage.py roles sync|grant|revoke|list`: who may do what."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.roles import (
    PERMISSIONS,
    STAFF_ROLES,
    Role,
    role_grant,
    role_holders,
    role_revoke,
    roles_sync,
)
from apps.accounts.selectors import user_by_email
from apps.core.errors import DomainError


class Command(BaseCommand):
    help = "Groups and permissions from the table in code, and who has which role."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser(
            "sync", help="Make the groups say what the table says (every migrate does it too)."
        )
        listing = actions.add_parser("list", help="The staff roles and who has them.")
        listing.add_argument("--permissions", action="store_true", help="Also what each role may do.")
        for name, text in (("grant", "Give a person a role."), ("revoke", "Take a role from a person.")):
            change = actions.add_parser(name, help=text)
            change.add_argument("--email", required=True)
            change.add_argument("--role", required=True, choices=[role.value for role in STAFF_ROLES])

    def handle(self, *args: Any, **options: Any) -> None:
        del args
        try:
            if options["action"] == "sync":
                self._sync()
            elif options["action"] == "list":
                self._list(permissions=options["permissions"])
            else:
                self._change(options)
        except DomainError as error:
            raise CommandError(error.detail) from error

    def _sync(self) -> None:
        changed = roles_sync()
        for role, (added, removed) in changed.items():
            for sign, names in (("+", added), ("-", removed)):
                for name in names:
                    self.stdout.write(f"{role} {sign} {name}")
        if not changed:
            self.stdout.write("Nothing to change.")

    def _list(self, *, permissions: bool) -> None:
        for role, people in role_holders().items():
            self.stdout.write(f"{role}: {', '.join(user.email for user in people) or 'nobody'}")
            if permissions:
                for name in sorted(PERMISSIONS[role]):
                    self.stdout.write(f"    {name}")

    def _change(self, options: dict[str, Any]) -> None:
        user, role = user_by_email(email=options["email"]), Role(options["role"])
        service = role_grant if options["action"] == "grant" else role_revoke
        changed = service(user_id=user.pk, role=role, actor="manage.py roles")
        said = {("grant", True): "has", ("grant", False): "had", ("revoke", True): "no longer has"}
        self.stdout.write(
            f"{user.email} {said.get((options['action'], changed), 'never had')} the role {role}."
        )
