"""For every room's API tests: a client with a key, and exact assertions on problem documents."""

import json
from collections.abc import Iterable
from typing import Any

from django.http import HttpResponse
from django.test import Client

from apps.accounts.domain import Scope
from apps.accounts.models import User
from apps.accounts.services import api_key_create, user_create

MEMBERS = ("type", "title", "status", "detail", "instance", "code", "retryable", "request_id", "errors")


class ApiClient:
    """Sends JSON with an API key, the way a caller does: through the whole middleware stack."""

    def __init__(self, key: str = "") -> None:
        self.key = key
        # A crash must come back as the answer that a caller would see.
        self.client = Client(raise_request_exception=False)

    def get(self, path: str, query: dict[str, Any] | None = None, **headers: str) -> HttpResponse:
        return self.send("GET", path, query=query, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self.send("POST", path, body=body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self.send("PATCH", path, body=body, **headers)

    def delete(self, path: str, **headers: str) -> HttpResponse:
        return self.send("DELETE", path, **headers)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, Any] | None = None,
        content_type: str = "application/json",
        **headers: str,
    ) -> HttpResponse:
        """`headers` are written with underscores: `idempotency_key="…"`. A `bytes` body is sent as it is."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key and "authorization" not in sent:
            sent["authorization"] = f"Bearer {self.key}"
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.client.generic(  # type: ignore[return-value]
            method, path, data=data, content_type=content_type, headers=sent, query_params=query
        )


def user_with_key(
    email: str = "ann@example.org", scopes: Iterable[str] = tuple(Scope), **fields: Any
) -> tuple[User, ApiClient]:
    """A person and a client that holds their key; all scopes unless told."""
    user = user_create(email=email, **fields)
    created = api_key_create(user_id=user.id, name="test", scopes=scopes)
    return user, ApiClient(created.key)


def problem(
    response: HttpResponse,
    status: int,
    code: str,
    *,
    errors: Iterable[tuple[str, str]] | None = None,
    retryable: bool = False,
) -> dict[str, Any]:
    """Assert that the answer is this problem, whole and with nothing else; returns the document.

    `errors` are (pointer or parameter, code) pairs in any order.
    """
    assert response["Content-Type"] == "application/problem+json", response.content[:500]
    document: dict[str, Any] = json.loads(response.content)
    assert (response.status_code, document["status"], document["code"]) == (status, status, code), document
    assert tuple(document)[: len(MEMBERS)] == MEMBERS
    assert document["type"] == f"urn:tranche:problem:{code}"
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/")
    assert document["retryable"] is retryable
    assert document["request_id"] == response["X-Request-Id"] != ""
    if errors is not None:
        found = [
            (error.get("pointer", error.get("parameter")), error["code"]) for error in document["errors"]
        ]
        assert sorted(found) == sorted(errors), document["errors"]
    return document
