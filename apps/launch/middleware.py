"""Every request is held against the platform's state before its view runs."""

from collections.abc import Callable
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from apps.core import clock
from apps.core.api.problems import Problem, problem_response
from apps.launch.domain import RouteClass, State
from apps.launch.routes import route_class
from apps.launch.states import platform_now
from apps.treasury.models import Activity

# Asked of nothing, so that they answer when nothing else does.
_UNASKED = frozenset({RouteClass.ALWAYS, RouteClass.STAFF})
_CODES = {State.MAINTENANCE: "platform_maintenance", State.PAUSED: "platform_paused"}


class PlatformStateMiddleware:
    """The state is read from PostgreSQL, at most twice a second per process; Redis has no part in it.

    Without PostgreSQL nothing is let through but health: what cannot be known is not allowed.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponseBase | None:
        match = request.resolver_match
        found = route_class(match.route if match else "", str(request.method))
        if found in _UNASKED:
            return None
        try:
            platform = platform_now()
        except (OperationalError, InterfaceError):
            return _refuse(request, Problem(code="unavailable", headers={"Retry-After": "1"}))
        if not platform.answers(found):
            if found == RouteClass.WAITLIST and platform.state == State.LIVE:
                return _refuse(request, Problem(code="waitlist_closed"))
            wait = str(platform.retry_after(clock.now()))
            detail = platform.message or None
            code = _CODES.get(platform.state, "unavailable")
            return _refuse(request, Problem(code=code, detail=detail, headers={"Retry-After": wait}))
        if found == RouteClass.SIGN_UP and Activity.SIGNING_UP in platform.stopped:
            return _refuse(request, Problem(code="sign_up_closed"))
        return None


def _refuse(request: HttpRequest, problem: Problem) -> HttpResponseBase:
    return problem_response(problem, request=request)
