"""For every room's API tests: a client with a key, and exact assertions on problem documents."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.test import Client

from apps.accounts.domain import Scope
from apps.accounts.models import User
from apps.accounts.services import api_key_create, user_create

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

MEMBERS = ("type", "title", "status", "detail", "instance", "code", "retryable", "request_id", "errors")


class ApiClient:
    """Sends JSON with an API key, the way a caller does: through the whole middleware stack."""

    def __init__(self, key: str = "") -> None:
        self.key = key
        # A crash must come back as the answer that a caller would see.
        self.client = Client(raise_request_exception=False)

    def get(self, path: str, query: dict[str, Any] | None = None, **headers: str) -> "Answer":
        return self.send("GET", path, query=query, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> "Answer":
        return self.send("POST", path, body=body, headers=headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> "Answer":
        return self.send("PATCH", path, body=body, headers=headers)

    def delete(self, path: str, **headers: str) -> "Answer":
        return self.send("DELETE", path, headers=headers)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, Any] | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> "Answer":
        """`headers` are written with underscores: `idempotency_key="…"`. A `bytes` body is sent as it is."""
        sent = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        if self.key and "authorization" not in sent:
            sent["authorization"] = f"Bearer {self.key}"
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.client.generic(
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
    response: "Answer",
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
