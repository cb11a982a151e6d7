"""Route × role × status: walks everything that has a URL, as everybody, and compares with `matrix.csv`.

`pytest tests/accounts/roles/test_matrix.py --write-matrix` writes it anew. Read the difference before you commit it:
each cell is a right that somebody has. Pages are asked with templates that are empty: whether they can be shown is
other tests' question, and would take most of the time here.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.template import Origin
from django.template.loaders.base import Loader
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, resolve

from apps.accounts.adminsite.signing_in import SHOWN
from apps.accounts.domain import Scope
from apps.accounts.models import User
from apps.accounts.roles import STAFF_ROLES, role_grant
from apps.accounts.services import api_key_create, user_create

FILE = Path(__file__).with_name("matrix.csv")
NOBODY = "00000000-0000-0000-0000-000000000000"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# The admin knows looking and posting: another method looks, or is a 405 (`test_other_methods_change_nothing`).
ADMIN_METHODS = ("GET", "POST")
# `limited` holds a key with one scope (the admin takes no keys); `unproven` is an operator who has shown no second
# factor (the API asks a key for none). Where a role is not asked, its cell is empty.
ROLES = ("anonymous", "customer", "limited", "unproven", *(role.value for role in STAFF_ROLES))
ADMIN = "/admin/"
_PARAMETER = re.compile(r"<(?:(?P<kind>[^:>]+):)?(?P<name>[^>]+)>")
_ENDS_SESSIONS = ("/admin/login/", "/admin/logout/")


@dataclass(frozen=True, order=True)
class Asked:
    """One row: a method at a route, and for a list in the admin the action that is asked for."""

    route: str
    action: str
    method: str

    def __str__(self) -> str:
        return f"{self.method} {self.route} {self.action}".strip()


Rows = dict[Asked, list[int | None]]


def routes() -> list[str]:
    """Every route of the installation, as its patterns spell it."""
    return sorted(
        {route for route in _walk(get_resolver().url_patterns, "/") if not route.startswith("/static/")}
    )


def _walk(patterns: list[Any], prefix: str) -> Iterator[str]:
    for pattern in patterns:
        here = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$").removesuffix(r"\Z")
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, here)
        elif isinstance(pattern, URLPattern):
            yield here


def asked() -> list[Asked]:
    rows = []
    for route in routes():
        methods = ADMIN_METHODS if route.startswith(ADMIN) else METHODS
        rows += [Asked(route, "", method) for method in methods]
    for model, page in admin.site._registry.items():
        route = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        names = {name for _, name, _ in page._get_base_actions()}  # type: ignore[attr-defined]
        rows += [Asked(route, name, "POST") for name in names]
    return sorted(rows)


def filled(route: str) -> str:
    """The path of a route: ids that nothing has."""

    def value(match: re.Match[str]) -> str:
        kind, name = match["kind"], match["name"]
        if "app_label" in match[0]:
            return "accounts"
        return {"uuid": NOBODY, "int": "0"}.get(
            kind or "", NOBODY if name in ("object_id", "path") else "nothing"
        )

    plain = re.sub(r"\(\?P<app_label>[^)]*\)", "accounts", route)
    plain = re.sub(r"\(\?P<url>\.\*\)", "nothing", plain)
    return _PARAMETER.sub(value, plain)


class Blank(Loader):
    """Every template, empty."""

    def get_template_sources(self, template_name: str) -> Iterator[Origin]:
        yield Origin(name=template_name, template_name=template_name, loader=self)

    def get_contents(self, origin: Origin) -> str:
        return ""


def templates_blank() -> list[dict[str, Any]]:
    """`settings.TEMPLATES` with `Blank`."""
    engine: dict[str, Any] = settings.TEMPLATES[0]
    options = {**engine["OPTIONS"], "loaders": ["tests.accounts.matrix.Blank"]}
    return [{**engine, "APP_DIRS": False, "OPTIONS": options}]


class Crowd:
    """Somebody of every role, at the API with a key and in the admin with a session."""

    def __init__(self) -> None:
        self.people: dict[str, User] = {}
        self.keys: dict[str, str] = {}
        boss = user_create(email="matrix-boss@example.org")
        for role in ROLES[1:]:
            user = user_create(email=f"matrix-{role}@example.org", password=None)
            if role == "unproven":
                role_grant(user_id=user.pk, role=STAFF_ROLES[1], actor=boss)
            elif role not in ("customer", "limited"):
                role_grant(user_id=user.pk, role=next(one for one in STAFF_ROLES if one == role), actor=boss)
            self.people[role] = User.objects.get(pk=user.pk)
            scopes = [Scope.KEYS_READ] if role == "limited" else list(Scope)
            self.keys[role] = api_key_create(user_id=user.pk, name=role, scopes=scopes).key
        self.sessions = {role: self._session(role) for role in ROLES}

    def _session(self, role: str) -> Client:
        client = Client(raise_request_exception=False)
        if role in self.people:
            client.force_login(self.people[role])
        if role == "unproven":
            session = client.session
            del session[SHOWN]
            session.save()
        return client

    def statuses(self, what: Asked) -> list[int | None]:
        return [self.status(what, role) if self._asks(what, role) else None for role in ROLES]

    def _asks(self, what: Asked, role: str) -> bool:
        """A method that no view of the route has is asked twice only: it is nobody's."""
        if what.route.startswith(ADMIN):
            return role != "limited"
        return role in ("anonymous", "customer") or (role != "unproven" and _has(what))

    def status(self, what: Asked, role: str) -> int:
        path = filled(what.route)
        if what.route.startswith(ADMIN):
            ends = what.route in _ENDS_SESSIONS
            client = self._session(role) if ends else self.sessions[role]
            data = {"action": what.action, "_selected_action": NOBODY} if what.action else {}
            return int(client.generic(what.method, path, **_form(data, what.method)).status_code)
        client = Client(raise_request_exception=False)
        headers = {"Authorization": f"Bearer {self.keys[role]}"} if role in self.keys else {}
        answer = client.generic(what.method, path, "{}", content_type="application/json", headers=headers)
        return int(answer.status_code)


@cache
def _has(what: Asked) -> bool:
    view = getattr(resolve(filled(what.route)).func, "cls", None)
    return view is None or hasattr(view, what.method.lower())


def _form(data: dict[str, str], method: str) -> dict[str, Any]:
    if method != "POST":
        return {}
    return {"data": urlencode(data), "content_type": "application/x-www-form-urlencoded"}


def measure(*, of_admin: bool) -> Rows:
    crowd = Crowd()
    return {what: crowd.statuses(what) for what in asked() if what.route.startswith(ADMIN) is of_admin}


def read() -> Rows:
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        Asked(row["route"], row["action"], row["method"]): [
            int(row[role]) if row[role] else None for role in ROLES
        ]
        for row in rows
    }


def write(found: Rows) -> None:
    """Put what was found in place of the file's rows of the same part."""
    part = {what.route.startswith(ADMIN) for what in found}
    kept = {what: cells for what, cells in read().items() if what.route.startswith(ADMIN) not in part}
    with FILE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "route", "action", *ROLES])
        rows = sorted({**kept, **found}.items())
        writer.writerows([what.method, what.route, what.action, *cells] for what, cells in rows)
