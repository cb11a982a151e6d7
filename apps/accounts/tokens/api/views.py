from typing import cast
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import User
from apps.accounts.tokens.api.answers import CSRF_HEADER, cookies_clear, refresh_cookie_read, tokens_answer
from apps.accounts.tokens.api.serializers import (
    RefreshSerializer,
    SessionSerializer,
    SignOutAllSerializer,
    TokensSerializer,
)
from apps.accounts.tokens.caller import caller_of
from apps.accounts.tokens.domain import AccessToken
from apps.accounts.tokens.models import EndReason, Transport
from apps.accounts.tokens.selectors import session_page
from apps.accounts.tokens.services import RefreshInProgress, session_refresh, session_revoke, sessions_revoke
from apps.core.api.pagination import PAGE_PARAMETERS, paged
from apps.core.api.problems import ProblemError
from apps.core.api.views import ApiView

RETRY_SECONDS = 1


class RefreshView(ApiView):
    tag = "sessions"
    public = True
    refusals = {401, 403}

    @extend_schema(
        operation_id="auth_refresh",
        summary="Trade a refresh token for the next pair of tokens",
        request=RefreshSerializer,
        responses=TokensSerializer,
        parameters=[
            OpenApiParameter(
                CSRF_HEADER,
                str,
                OpenApiParameter.HEADER,
                description="With the cookie: `csrf_token` of the answer before, or the CSRF cookie's value.",
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """A refresh token is good once. Shown a second time it ends its session, for whoever holds it: keep the new
        one before the old one is forgotten, and refresh in one place at a time."""
        values = self.read(request, RefreshSerializer)
        text, transport = values.get("refresh_token"), Transport.BODY
        if text is None:
            text, transport = refresh_cookie_read(request._request), Transport.COOKIE
        if text is None:
            raise ProblemError(
                "invalid_refresh_token", "There is no refresh token in the body, nor in a cookie."
            )
        try:
            pair = session_refresh(text=text, transport=transport, caller=caller_of(request._request))
        except RefreshInProgress as error:
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise ProblemError("refresh_in_progress", headers=headers) from error
        return tokens_answer(pair)


class SignOutView(ApiView):
    tag = "sessions"
    scopes = {"POST": None}
    sessions_only = True

    @extend_schema(
        operation_id="auth_sign_out", summary="End the session that asks", request=None, responses={204: None}
    )
    def post(self, request: Request) -> Response:
        """At once, its access tokens too."""
        self.read_empty(request)
        session_id = cast("AccessToken", request.auth).session_id
        session_revoke(user_id=self.user_id, session_id=session_id, reason=EndReason.SIGNED_OUT)
        return cookies_clear(Response(status=204))


class SessionsView(ApiView):
    tag = "sessions"
    scopes = {"GET": None, "DELETE": None}
    sessions_only = True

    @extend_schema(
        operation_id="sessions_list",
        summary="Where you are signed in, the newest first",
        responses=paged(SessionSerializer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request) -> Response:
        query, _ = self.read_page(request)
        page = session_page(user=cast("User", request.user), query=query)
        return self.answer_page(page, SessionSerializer, current=cast("AccessToken", request.auth).session_id)

    @extend_schema(
        operation_id="sessions_revoke_all",
        summary="Sign out everywhere",
        responses={204: None},
        parameters=[
            OpenApiParameter("keep", {"type": "string", "enum": ["current"]}, description="All but this one.")
        ],
    )
    def delete(self, request: Request) -> Response:
        """At once, the session that asks too unless it is kept."""
        keep = self.read_query(request, SignOutAllSerializer).get("keep")
        here = cast("AccessToken", request.auth).session_id
        reason = EndReason.SIGNED_OUT_ELSEWHERE
        if keep:
            sessions_revoke(user_id=self.user_id, reason=reason, keep=here)
            return Response(status=204)
        sessions_revoke(user_id=self.user_id, reason=reason)
        return cookies_clear(Response(status=204))


class SessionView(ApiView):
    tag = "sessions"
    scopes = {"DELETE": None}
    sessions_only = True

    @extend_schema(operation_id="sessions_revoke", summary="Sign out one session", responses={204: None})
    def delete(self, request: Request, session_id: UUID) -> Response:
        """At once. Ending a session again is no error."""
        del request
        session_revoke(user_id=self.user_id, session_id=session_id, reason=EndReason.SIGNED_OUT_ELSEWHERE)
        return Response(status=204)
