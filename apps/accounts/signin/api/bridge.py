"""From our views to allauth's headless views and back: one transaction, and problems instead of their errors.

allauth does the flows. A view here reads a strict body, hands it over under the names that allauth has for it, and
gets `Said` back, or raises the problem that allauth's answer is.
"""

import copy
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, cast

import orjson
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse, RateLimited
from allauth.headless.base.response import ReauthenticationResponse
from allauth.headless.base.views import APIView as AllauthView
from allauth.headless.constants import Client
from allauth.headless.internal.decorators import app_view
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.accounts.signin import counts, lockout, stepup
from apps.accounts.signin.api.serializers import PERSON_PROBLEMS
from apps.accounts.tokens.api.answers import tokens_answer
from apps.accounts.tokens.caller import transport_of
from apps.accounts.tokens.domain import TokenPair
from apps.core.api.problems import ProblemError
from apps.core.api.views import ApiView

logger = logging.getLogger(__name__)

# Ours for allauth's names of values.
_POINTERS = {"key": "/code", "token": "/id_token"}
_THROTTLED = {"too_many_login_attempts", "rate_limited"}
# allauth's error codes that are a problem of their own.
_PROBLEMS = {
    "email_password_mismatch": "wrong_credentials",
    "incorrect_code": "wrong_code",
    "invalid_token": "token_refused",
    "email_taken": "email_taken",
}
# What allauth's readers of passkeys raise for an answer that is none.
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError)
# A flow that nobody goes on with is forgotten after this long.
PENDING_SECONDS = 3_600
# Headers of answers that hold what nobody on the way may keep.
SECRET = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class Said:
    """allauth's answer: its status, `data`, `meta` and `errors`."""

    status: int
    data: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[Mapping[str, Any], ...] = ()


class SignInView(ApiView):
    """A step of signing up or in: nobody need be signed in, and `X-Session-Token` says which flow it goes on with."""

    tag = "sign-in"
    public = True
    # A flow's token that is unknown or over.
    refusals = frozenset({410})

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Django keeps the body that it was asked for; DRF then reads that one, and allauth may be given another.
        _ = request._request.body
        # How the tokens shall come is known before anything is done.
        transport_of(request._request)
        super().initial(request, *args, **kwargs)

    def ask(
        self,
        view: type[AllauthView],
        method: str = "POST",
        data: Mapping[str, Any] | None = None,
        *,
        fine: Collection[int] = (200,),
        query: str = "",
        step_up: bool = False,
        before: Callable[[], None] | None = None,
        after: Callable[[HttpRequest], None] | None = None,
    ) -> Said:
        """allauth's answer, when its status is `fine`; raises `ProblemError` otherwise.

        One transaction: the flow, its mails and its session happen together or not at all. Wrong tries are counted in
        it as well, so that it commits whatever allauth answers. `before` may refuse by raising; `after` adds to it
        when the answer is fine.
        """
        request = self._request_for(method, data, query)

        def inside(request: HttpRequest) -> HttpResponse:
            if before is not None:
                before()
            if step_up and not stepup.is_fresh(request):
                return cast("HttpResponse", ReauthenticationResponse(request))
            # A savepoint: allauth saves the session whatever its view raised.
            with transaction.atomic():
                answer: HttpResponse = view.as_view(client=Client.APP)(request)
            if after is not None and answer.status_code in fine:
                after(request)
            _pending_shorten(request)
            return answer

        try:
            # allauth looks the request up there, too.
            with context.request_context(request), counts.limits_met() as waits, transaction.atomic():
                self.person_lock()
                said = _said(app_view(inside)(request))
        except ImmediateHttpResponse as stop:
            said = _said(stop.response)
        except RateLimited as error:
            raise _throttled(waits) from error
        except IntegrityError as error:
            # Two at once: one email for two people, one factor twice.
            raise ProblemError("email_taken" if "email" in str(error) else "conflict") from error
        if getattr(request, "axes_locked_out", False):
            raise ProblemError("sign_in_locked", headers={"Retry-After": str(lockout.seconds_left(request))})
        if said.status not in fine:
            raise problem_of(said, waits)
        return said

    def person_lock(self) -> None:
        """Before allauth reads the person whom it will write back."""

    def _request_for(self, method: str, data: Mapping[str, Any] | None, query: str) -> HttpRequest:
        """The request as allauth's view is to see it. The one that came stays as it is for whatever is around us."""
        request = copy.copy(self.request._request)
        request.method = method
        request._body = orjson.dumps(data) if data is not None else b""
        request.GET = QueryDict(query)
        # A step of signing in never rides on an access token, nor a person's request on a flow's token.
        unwanted = "HTTP_AUTHORIZATION" if self.public else "HTTP_X_SESSION_TOKEN"
        request.META = {name: value for name, value in request.META.items() if name != unwanted}
        request.__dict__.pop("headers", None)
        return request

    def ask_passkey(self, view: type[AllauthView], method: str = "POST", **kwargs: Any) -> Said:
        """`ask` for what a browser's authenticator made: whatever cannot be read is refused, not a crash."""
        try:
            return self.ask(view, method, **kwargs)
        except _UNREADABLE as error:
            logger.info("unreadable passkey", extra={"error": type(error).__name__})
            raise ProblemError("passkey_refused") from error

    def signed_in(self, said: Said) -> Response:
        """The tokens of whoever has just signed in."""
        return tokens_answer(TokenPair.from_meta(said.meta), extra={"user": said.data["user"]})


class PersonView(SignInView):
    """For whoever is signed in. An API key is not enough: it is no proof that its holder is there."""

    public = False
    refusals = frozenset()
    sessions_only = True
    scopes = {"GET": None, "POST": None, "PUT": None, "PATCH": None, "DELETE": None}
    authentication_classes = APIView.authentication_classes
    permission_classes = APIView.permission_classes
    problems = PERSON_PROBLEMS

    def person_lock(self) -> None:
        """Lock order: person first. Whoever was closed, or is just being closed, is nobody: 401."""
        people = User.objects.select_for_update(no_key=True)
        if not people.filter(pk=self.user_id, is_active=True).exists():
            raise ProblemError("not_authenticated")


def _pending_shorten(request: HttpRequest) -> None:
    """A sign-in that nobody goes on with is forgotten soon."""
    if request.session.modified and not request.session.is_empty() and not request.user.is_authenticated:
        request.session.set_expiry(PENDING_SECONDS)


def _said(answer: HttpResponse) -> Said:
    try:
        body = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        body = {}
    return Said(answer.status_code, body.get("data"), body.get("meta") or {}, tuple(body.get("errors") or ()))


def problem_of(said: Said, waits: Collection[float] = ()) -> ProblemError:
    """The problem that an answer of allauth's is. `waits`: of the limits that were met (`counts.limits_met`)."""
    if said.status == 401:
        return _incomplete(said)
    if said.status == 400:
        return _refused(said, waits)
    if said.status == 429:
        return _throttled(waits)
    if said.status == 409:
        return ProblemError("flow_not_pending", str(said.errors[0]["message"]) if said.errors else None)
    code = {403: "permission_denied", 404: "not_found", 410: "flow_expired"}[said.status]
    return ProblemError(code)


def _incomplete(said: Said) -> ProblemError:
    flows = (said.data or {}).get("flows", [])
    if said.meta.get("is_authenticated"):
        return stepup.step_up_problem(flows)
    pending = [flow for flow in flows if flow.get("is_pending")]
    extra = {
        "flows": pending or [{**flow, "is_pending": False} for flow in flows],
        "session_token": said.meta.get("session_token"),
    }
    challenge = 'Session realm="sign-in"'
    return ProblemError("authentication_incomplete", headers={"WWW-Authenticate": challenge}, extra=extra)


def _refused(said: Said, waits: Collection[float]) -> ProblemError:
    codes = {str(error.get("code")) for error in said.errors}
    if codes & _THROTTLED:
        return _throttled(waits)
    for error in said.errors:
        code = _PROBLEMS.get(str(error.get("code")))
        if code == "wrong_code" and error.get("param") not in ("code", "key"):
            # allauth calls a passkey's answer a code, too.
            code = "passkey_refused"
        if code is not None:
            return ProblemError(
                code, errors=[_entry(error)] if error.get("param") and code == "wrong_code" else ()
            )
    return ProblemError("validation_failed", errors=[_entry(error) for error in said.errors])


def _entry(error: Mapping[str, Any]) -> dict[str, str]:
    param = str(error.get("param", ""))
    return {
        "pointer": _POINTERS.get(param, f"/{param}" if param else ""),
        "code": str(error.get("code") or "invalid"),
        "detail": str(error.get("message", "")),
    }


def _throttled(waits: Collection[float]) -> ProblemError:
    """Without a limit that is full, two tried at once and one was not counted: a second is enough."""
    return ProblemError("throttled", headers={"Retry-After": str(max(1, ceil(max(waits, default=1))))})
