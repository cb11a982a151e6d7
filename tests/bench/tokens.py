"""What it costs a request to check its access token, beside the check of an API key.

Both are the API's own authentication classes, asked in turn in one process, each with the query that finds the person;
nothing of HTTP is in it. The floor is that query's round trip with nothing to find: `SELECT 1`.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from django.db import connection
from django.test import RequestFactory
from rest_framework.request import Request

from apps.accounts.api.authentication import AccessTokenAuthentication, ApiKeyAuthentication
from apps.accounts.models import User
from apps.accounts.services import api_key_create
from apps.accounts.tokens.services import session_open

GOAL = 1.5
# Asked in turns of this many, so that whatever else the machine does meets all of them.
TURN = 50


def run(*, checks: int, runs: int) -> list[dict[str, Any]]:
    """Microseconds per check, medians of `runs`; each run makes `checks` of each kind."""
    person = User.objects.create(email="bench-tokens@example.org")
    key = api_key_create(user_id=person.pk, name="bench", scopes=["plans:read"]).key
    pair = session_open(user=person, request=RequestFactory().post("/"), factors=["password"])
    ask = {
        "ours": _asker(AccessTokenAuthentication(), pair.access_token),
        "baseline": _asker(ApiKeyAuthentication(), key),
        "floor": _round_trip,
    }
    found = [_measure(ask, checks) for _ in range(runs + 1)][1:]
    each = {name: [one[name] for one in found] for name in ask}
    ratio = median(each["ours"]) / median(each["baseline"])
    return [
        {
            "name": "access token: check per request",
            **{name: round(median(values), 1) for name, values in each.items()},
            "unit": "µs; baseline: an API key's; floor: SELECT 1",
            "ratio": round(ratio, 2),
            "goal": f"at most {GOAL:g} times an API key's",
            "met": ratio <= GOAL,
            "runs": {name: [round(one, 1) for one in values] for name, values in each.items()},
        }
    ]


def _asker(authentication: Any, credential: str) -> Callable[[], None]:
    request = Request(RequestFactory().get("/api/v1/me", headers={"authorization": f"Bearer {credential}"}))

    def ask() -> None:
        if authentication.authenticate(request) is None:
            raise RuntimeError("not authenticated")

    return ask


def _round_trip() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


def _measure(ask: dict[str, Callable[[], None]], checks: int) -> dict[str, float]:
    spent = dict.fromkeys(ask, 0.0)
    turns = max(1, checks // TURN)
    for _ in range(turns):
        for name, once in ask.items():
            began = time.perf_counter()
            for _ in range(TURN):
                once()
            spent[name] += time.perf_counter() - began
    return {name: seconds / (turns * TURN) * 1e6 for name, seconds in spent.items()}
