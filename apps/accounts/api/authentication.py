"""`Authorization: Bearer trn_…`."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.accounts.models import ApiKey, User
from apps.accounts.selectors import api_key_authenticate
from apps.accounts.services import api_key_touch
from apps.core.api.problems import ProblemError

CHALLENGE = 'Bearer realm="api"'


class ApiKeyAuthentication(BaseAuthentication):
    """One query per request. Whatever is wrong with a key, the answer is the same."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        header = request.headers.get("Authorization", "")
        if not header:
            return None
        scheme, _, text = header.partition(" ")
        api_key = api_key_authenticate(text=text.strip()) if scheme.lower() == "bearer" else None
        if api_key is None:
            challenge = f'{CHALLENGE}, error="invalid_token"'
            raise ProblemError("invalid_api_key", headers={"WWW-Authenticate": challenge})
        api_key_touch(api_key=api_key)
        return api_key.user, api_key

    def authenticate_header(self, request: Request) -> str:
        del request
        return CHALLENGE


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
