from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.permissions import scopes_held
from apps.accounts.api.serializers import (
    ApiKeyCreatedSerializer,
    ApiKeyCreateSerializer,
    ApiKeySerializer,
)
from apps.accounts.domain import networks_within
from apps.accounts.models import ApiKey
from apps.accounts.selectors import api_key_page
from apps.accounts.services import api_key_create, api_key_revoke, networks_clean
from apps.accounts.signin.api.serializers import STEP_UP_PROBLEMS
from apps.core.api.idempotency import idempotent
from apps.core.api.pagination import PAGE_PARAMETERS, paged
from apps.core.api.problems import ProblemError
from apps.core.api.views import ApiView


class ApiKeysView(ApiView):
    tag = "accounts"
    scopes = {"GET": "keys:read", "POST": "keys:write"}
    limits = {"POST": "keys"}
    step_up = {"POST"}
    problems = STEP_UP_PROBLEMS

    @extend_schema(
        operation_id="api_keys_list",
        summary="Your API keys, the newest first",
        responses=paged(ApiKeySerializer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request) -> Response:
        query, _ = self.read_page(request)
        return self.answer_page(api_key_page(user_id=self.user_id, query=query), ApiKeySerializer)

    @extend_schema(
        operation_id="api_keys_create",
        summary="Make an API key",
        request=ApiKeyCreateSerializer,
        responses={201: ApiKeyCreatedSerializer},
    )
    @idempotent(redact=("key",))
    def post(self, request: Request) -> Response:
        """The key is shown in this answer and never again. A key cannot give more than it has, nor for longer."""
        values = self.read(request, ApiKeyCreateSerializer)
        _within(request, values)
        created = api_key_create(user_id=self.user_id, **values)
        body = {**ApiKeySerializer(created.api_key).data, "key": created.key}
        return Response(body, status=201, headers={"Cache-Control": "no-store"})


def _within(request: Request, wanted: dict[str, Any]) -> None:
    """A key makes none that outlives it, works from elsewhere, or may do more; what is not said is as its own."""
    if not set(scopes_held(request)).issuperset(wanted["scopes"]):
        raise ProblemError("insufficient_scope", "A key cannot make a key with scopes that it lacks itself.")
    maker = request.auth
    if not isinstance(maker, ApiKey):
        return
    if maker.networks:
        wanted["networks"] = networks_clean(wanted["networks"]) or maker.networks
        if not networks_within(wanted["networks"], maker.networks):
            raise ProblemError(
                "permission_denied", "A key cannot make a key for networks outside of its own."
            )
    if maker.expires_at is not None:
        wanted["expires_at"] = wanted["expires_at"] or maker.expires_at
        if wanted["expires_at"] > maker.expires_at:
            raise ProblemError("permission_denied", "A key cannot make a key that outlives it.")


class ApiKeyView(ApiView):
    tag = "accounts"
    scopes = {"DELETE": "keys:write"}
    step_up = {"DELETE"}
    problems = STEP_UP_PROBLEMS

    @extend_schema(operation_id="api_keys_revoke", summary="Revoke an API key", responses={204: None})
    def delete(self, request: Request, api_key_id: UUID) -> Response:
        """At once. Revoking a key again is no error."""
        api_key_revoke(user_id=self.user_id, api_key_id=api_key_id)
        return Response(status=204)
