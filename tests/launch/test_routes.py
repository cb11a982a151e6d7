"""Every route in every state: what it should answer is the table's word, and the middleware's deed."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.urls import URLPattern, URLResolver, get_resolver

from apps.launch.domain import ANSWERS, RouteClass, State
from apps.launch.routes import READS, route_class, route_line
from apps.launch.states import PLATFORM_NOW
from apps.launch.switches import switch_stop
from apps.treasury.models import Activity
from tests.core.api.support import ApiClient, problem
from tests.launch.support import go

pytestmark = pytest.mark.django_db
_METHODS = ("get", "post", "put", "patch", "delete")
_SAMPLES = {"uuid": str(uuid4()), "int": "7", "str": "x", "path": "x", "slug": "x"}
# Django's own: asked about by `admin/` as a whole.
_ADMIN = "admin/"
REFUSALS = {State.PAUSED: "platform_paused", State.MAINTENANCE: "platform_maintenance"}


def walk(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every route as the URLconf has it, with its methods."""
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, route)
            continue
        view = getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None)
        methods = [name.upper() for name in _METHODS if view is None or hasattr(view, name)]
        yield route, methods if view is not None else ["GET"]


ROUTES = [
    (route, method)
    for route, methods in walk(get_resolver().url_patterns)
    if not route.startswith(_ADMIN)
    for method in methods
]


def path_of(route: str) -> str:
    """A path that the route matches."""
    return "/" + re.sub(r"<(?:(\w+):)?\w+>", lambda found: _SAMPLES[found[1] or "str"], route)


def refused(status: int, code: str) -> bool:
    return status in (403, 409, 503) and code in (
        "platform_paused", "platform_maintenance", "waitlist_closed", "sign_up_closed", "unavailable",
    )  # fmt: skip


def test_there_are_routes_to_walk() -> None:
    assert len(ROUTES) > 40
    assert len({route_class(route, method) for route, method in ROUTES}) >= 7


@pytest.mark.parametrize(("route", "method"), [one for one in ROUTES if one[1] not in READS])
def test_what_writes_is_in_the_table_by_name(route: str, method: str) -> None:
    assert route_line(route, method) is not None, f"say in apps/launch/routes.py what {method} {route} is for"


def test_a_route_that_nobody_named_answers_least() -> None:
    assert route_class("api/v1/new-thing", "GET") == RouteClass.READ
    assert route_class("api/v1/new-thing", "POST") == RouteClass.BUY


@pytest.mark.parametrize("state", State)
def test_every_route_answers_as_the_table_says(state: State) -> None:
    if state != State.LIVE:
        go(state)
    client, wrong = ApiClient(), []
    for route, method in ROUTES:
        answer = client.send(method, path_of(route))
        code = answer.json()["code"] if answer.get("Content-Type") == "application/problem+json" else ""
        should = state in ANSWERS[route_class(route, method)]
        if should == refused(answer.status_code, code):
            wrong.append((method, route, answer.status_code, code))
        if not should and state in REFUSALS:
            assert (answer.status_code, code) == (503, REFUSALS[state])
            assert int(answer["Retry-After"]) >= 1
    assert wrong == []


def test_a_refusal_is_a_problem_with_the_operators_words() -> None:
    go(State.MAINTENANCE, message="Back at nine.")
    answer = ApiClient().get("/api/v1/plans")
    document = problem(answer, 503, "platform_maintenance", retryable=True)
    assert document["detail"] == "Back at nine."
    assert answer["Retry-After"] == "30"
    assert answer["X-Request-Id"]


def test_the_admin_answers_in_maintenance() -> None:
    go(State.MAINTENANCE)
    assert ApiClient().client.get("/admin/login/").status_code == 200


def test_stopped_signing_up_closes_sign_up_routes_only() -> None:
    switch_stop(activity=Activity.SIGNING_UP, reason="spam", actor="op")
    PLATFORM_NOW.forget()
    client = ApiClient()
    for route, method in ROUTES:
        answer = client.send(method, path_of(route))
        code = answer.json()["code"] if answer.get("Content-Type") == "application/problem+json" else ""
        assert (code == "sign_up_closed") == (route_class(route, method) == RouteClass.SIGN_UP)


def test_without_the_database_only_health_is_let_through() -> None:
    def away(*_: Any) -> Any:
        raise OperationalError

    client = ApiClient()
    with connection.execute_wrapper(away):
        problem(client.get("/api/v1/plans"), 503, "unavailable", retryable=True)
        problem(client.get("/api/v1/platform/status"), 503, "unavailable", retryable=True)
        assert client.get("/api/v1/health").status_code == 200
