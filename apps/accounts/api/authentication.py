"""`Authorization: Bearer …`: an API key (`trn_…`) or an access token (a JWT)."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.accounts.models import ApiKey, User
from apps.accounts.selectors import api_key_authenticate
from apps.accounts.services import api_key_touch
from apps.accounts.tokens.domain import AccessToken, access_token_like
from apps.accounts.tokens.selectors import access_token_authenticate
from apps.accounts.tokens.services import session_touch
from apps.core.api.client_address import client_address
from apps.core.api.problems import ProblemError

CHALLENGE = 'Bearer realm="api"'
_INVALID = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}


class AccessTokenAuthentication(BaseAuthentication):
    """Takes what has the form of a JWT, leaves the rest to `ApiKeyAuthentication`. One query per request."""

    def authenticate(self, request: Request) -> tuple[User, AccessToken] | None:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not access_token_like(text):
            return None
        found = access_token_authenticate(text=text.strip())
        if found is None:
            raise ProblemError("invalid_access_token", headers=_INVALID)
        session, access_token = found
        session_touch(session=session)
        return session.user, access_token

    def authenticate_header(self, request: Request) -> str:
        del request
        return CHALLENGE


class ApiKeyAuthentication(BaseAuthentication):
    """One query per request. Whatever is wrong with a key, the answer is the same."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        header = request.headers.get("Authorization", "")
        if not header:
            return None
        scheme, _, text = header.partition(" ")
        address = client_address(request)
        api_key = (
            api_key_authenticate(text=text.strip(), address=address) if scheme.lower() == "bearer" else None
        )
        if api_key is None:
            raise ProblemError("invalid_api_key", headers=_INVALID)
        api_key_touch(api_key=api_key)
        return api_key.user, api_key

    def authenticate_header(self, request: Request) -> str:
        del request
        return CHALLENGE


class AccessTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document names it."""

    target_class = AccessTokenAuthentication
    name = "AccessToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        del auto_schema
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Given out by a sign-in and by `POST /api/v1/auth/refresh`; good for 15 minutes.",
        }


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document names it."""

    target_class = ApiKeyAuthentication
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        del auto_schema
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "trn_<prefix>_<secret>",
            "description": "Made with `POST /api/v1/api-keys` or `manage.py accounts create-key`.",
        }
