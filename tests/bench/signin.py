"""Signing in over HTTP, beside the hashing of its passwords alone; and what an access token costs a request.

The web role's own command line with production's settings, the production's hasher among them (Argon2id with Django's
parameters). Clients never pause, each with a person of its own. The floor is the same number of threads that do nothing
but verify such a hash: what is left of the machine for everything else is small, and that is what Argon2 is for.
"""

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.db import connection

from apps.accounts.models import User
from apps.accounts.services import api_key_create
from apps.accounts.tokens.models import Session
from config.roles import command
from tests.bench.api import _load, _production, _request, _serve
from tests.support.stack import Stack

CLIENTS = 8
_PASSWORD = "plough-Ganymede-46"
_SIGN_IN = "/api/v1/auth/sign-in"
_ASKED = "/api/v1/balances"
_FLOOR = "/api/v1/platform/status"


def run(stack: Stack, *, each: int, runs: int) -> list[dict[str, Any]]:
    """Sign-ins a second of 8 clients, `each` per client and run; and a request's milliseconds by its credential."""
    hashed = Argon2PasswordHasher().encode(_PASSWORD, "bench-salt-0123456789")
    people = _people(hashed)
    signed: list[float] = []
    hashes: list[float] = []
    spent: dict[str, list[float]] = {"ours": [], "baseline": [], "floor": []}
    environment = {**_production(stack), "SIGN_IN_LIMIT_PER_SECOND": "100000"}
    web, port = _serve(stack, "web", command("web"), environment, "/api/v1/health")
    try:
        asked = {name: [one] for name, one in _credentials(port, people[0]).items()}
        for _ in range(runs):
            signed.append(_sign_in(port, people, each))
            hashes.append(_hash(hashed, CLIENTS * each))
            for name, clients in asked.items():
                found = _load(port, [clients * (each * 10 + 5)], warm=5)
                spent[name].append(found["p50"])
    finally:
        web.stop()
    return [_sign_in_row(signed, hashes), _token_row(spent)]


def _sign_in_row(ours: list[float], floor: list[float]) -> dict[str, Any]:
    return {
        "name": f"sign-in: over HTTP, {CLIENTS} clients",
        "ours": round(median(ours), 1),
        "baseline": None,
        "floor": round(median(floor), 1),
        "unit": "a second; floor: Argon2id alone",
        "ratio": round(median(ours) / median(floor), 2),
        "goal": None,
        "met": None,
        "runs": {
            name: [round(one, 1) for one in found] for name, found in (("ours", ours), ("floor", floor))
        },
    }


def _token_row(spent: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "name": "access token over HTTP: a request's time, one client",
        **{name: round(median(found), 2) for name, found in spent.items()},
        "unit": "ms (median); baseline: with an API key; floor: a public endpoint",
        "ratio": round(median(spent["ours"]) / median(spent["baseline"]), 2),
        "goal": None,
        "met": None,
        "runs": spent,
    }


def _people(hashed: str) -> list[User]:
    people = User.objects.bulk_create(
        [User(email=f"bench-signin-{number}@example.org", password=hashed) for number in range(CLIENTS)]
    )
    EmailAddress.objects.bulk_create(
        [EmailAddress(user=person, email=person.email, verified=True, primary=True) for person in people]
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return people


def _sign_in(port: int, people: list[User], each: int) -> float:
    before = Session.objects.count()
    found = _load(
        port,
        [
            [_request("POST", _SIGN_IN, "", {"email": person.email, "password": _PASSWORD})] * (each + 1)
            for person in people
        ],
        warm=1,
    )
    opened = Session.objects.count() - before
    if opened != CLIENTS * (each + 1):
        raise RuntimeError(f"{CLIENTS * (each + 1)} sign-ins opened {opened} sessions")
    return found["per_second"]


def _hash(hashed: str, many: int) -> float:
    """Verified hashes a second, by as many threads as there are clients; argon2 lets go of the interpreter."""
    hasher = Argon2PasswordHasher()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(lambda _: hasher.verify(_PASSWORD, hashed), range(CLIENTS)))
        started = time.perf_counter()
        right = list(threads.map(lambda _: hasher.verify(_PASSWORD, hashed), range(many)))
        took = time.perf_counter() - started
    if not all(right):
        raise RuntimeError("a password was not verified")
    return many / took


def _credentials(port: int, person: User) -> dict[str, str]:
    """The same question with an access token and with an API key, and one that asks nobody who they are."""
    token = _signed_in(port, person)
    key = api_key_create(user_id=person.pk, name="bench", scopes=["balances:read"]).key
    return {
        "ours": _request("GET", _ASKED, token),
        "baseline": _request("GET", _ASKED, key),
        "floor": _request("GET", _FLOOR, ""),
    }


def _signed_in(port: int, person: User) -> str:
    """An access token of the server's own: its keys are production's, this process has the stack's."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{_SIGN_IN}",
        data=json.dumps({"email": person.email, "password": _PASSWORD}).encode(),
        headers={"Content-Type": "application/json", "X-Forwarded-Proto": "https"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
        return str(json.load(answer)["access_token"])
