"""Stands in for the token room until it is there: the session's key is the access token."""

from typing import Any

from allauth.core.internal.sessionkit import get_session_user
from allauth.headless.internal import sessionkit
from allauth.headless.tokens.strategies.sessions import SessionTokenStrategy
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.core.api.problems import ProblemError


class InterimTokenStrategy(SessionTokenStrategy):  # type: ignore[misc]
    def get_session_token(self, request: HttpRequest) -> str | None:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and text.startswith("ses_"):
            return text
        token: str | None = super().get_session_token(request)
        return token

    def lookup_session(self, session_token: str) -> Any:
        session = sessionkit.lookup_session(session_token.removeprefix("ses_"))
        signed_in = session is not None and SESSION_KEY in session
        # The token of a sign-in under way is none of the session that it ends in, and the other way round.
        return session if signed_in == session_token.startswith("ses_") else None

    def create_access_token_payload(self, request: HttpRequest) -> dict[str, Any]:
        request.session.set_expiry(settings.SESSION_COOKIE_AGE)
        return {
            "access_token": f"ses_{self.create_session_token(request)}",
            "refresh_token": "",
            "expires_in": 900,
        }


class InterimAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Any, Any]:
        strategy = InterimTokenStrategy()
        token = strategy.get_session_token(request._request) or ""
        session = strategy.lookup_session(token) if token.startswith("ses_") else None
        user = get_session_user(session) if session is not None else None
        if user is None or not user.is_active:
            raise ProblemError("not_authenticated", headers={"WWW-Authenticate": 'Bearer realm="api"'})
        return user, session

    def authenticate_header(self, request: Request) -> str:
        del request
        return 'Bearer realm="api"'


class InterimScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = InterimAuthentication
    name = "AccessToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        del auto_schema
        return {"type": "http", "scheme": "bearer", "description": "Given by signing in."}
