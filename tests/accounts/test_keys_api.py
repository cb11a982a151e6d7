"""API keys and me: what works, what is refused, and that a refusal changes nothing."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import ApiKey
from apps.accounts.services import LAST_USED_EVERY, api_key_create, api_key_revoke, user_create
from apps.core import clock
from tests.core.api.support import ApiClient, problem, user_with_key

pytestmark = pytest.mark.django_db
KEYS, ME = "/api/v1/api-keys", "/api/v1/me"


@pytest.fixture(autouse=True)
def _no_earlier_throttling() -> None:
    cache.clear()


def snapshot() -> list[tuple[Any, ...]]:
    return list(ApiKey.objects.order_by("id").values_list())


def test_me() -> None:
    user, client = user_with_key("Ann@Example.ORG", scopes=["plans:read"], fee_tier="gold")
    response = client.get(ME)
    assert response.status_code == 200
    assert response.json() == {
        "id": str(user.id),
        "email": "ann@example.org",
        "email_verified": False,
        "fee_tier": "gold",
        "created_at": user.created_at.isoformat().replace("+00:00", "Z"),
        "roles": [],
        "factors": [],
        "scopes": ["plans:read"],
        "frozen_at": None,
        "api_keys": 1,
        "limits": {"api_keys": 50, "plans": 100, "withdrawal_destinations": 50},
    }


def test_key_is_shown_once_and_works() -> None:
    _, client = user_with_key()
    response = client.post(KEYS, {"name": "laptop", "scopes": ["plans:read", "plans:read", "keys:read"]})
    assert response.status_code == 201, response.content
    body = response.json()
    assert re.fullmatch(r"trn_[a-z0-9]{12}_[a-z0-9]{50}", body["key"])
    assert body["key"].split("_")[1] == body["prefix"]
    assert body["scopes"] == ["keys:read", "plans:read"]
    assert response["Cache-Control"] == "no-store"
    # Nothing that is kept or listed has the secret in it.
    secret = body["key"].rpartition("_")[2]
    assert secret not in str(snapshot())
    assert secret not in client.get(KEYS).content.decode()
    other = ApiClient(body["key"])
    assert other.get(ME).json()["scopes"] == ["keys:read", "plans:read"]
    listed = other.get(KEYS).json()
    assert [row["name"] for row in listed["data"]] == ["laptop", "test"]
    assert listed["next_cursor"] is None
    assert "key" not in listed["data"][0]


def test_pages_through_the_api() -> None:
    _, client = user_with_key()
    for number in range(4):
        assert client.post(KEYS, {"name": f"k{number}", "scopes": ["plans:read"]}).status_code == 201
    names, query = [], {"limit": "2"}
    for _ in range(3):
        page = client.get(KEYS, query).json()
        names += [row["name"] for row in page["data"]]
        query = {"limit": "2", "cursor": page["next_cursor"]}
    assert names == ["k3", "k2", "k1", "k0", "test"]
    assert page["next_cursor"] is None


def test_repeated_creation_makes_one_key_and_shows_it_once() -> None:
    _, client = user_with_key()
    body = {"name": "laptop", "scopes": ["plans:read"]}
    first = client.post(KEYS, body, idempotency_key="k-1").json()
    again = client.post(KEYS, body, idempotency_key="k-1")
    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == {**first, "key": None}
    assert ApiKey.objects.count() == 2


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("/name", "required"), ("/scopes", "required")]),
        ({"name": ""}, [("/name", "blank"), ("/scopes", "required")]),
        ({"name": " ", "scopes": ["plans:read"]}, [("/name", "blank")]),
        ({"name": "n" * 81, "scopes": ["plans:read"]}, [("/name", "max_length")]),
        ({"name": 5, "scopes": ["plans:read"]}, [("/name", "invalid")]),
        ({"name": None, "scopes": None}, [("/name", "null"), ("/scopes", "null")]),
        ({"name": "n", "scopes": []}, [("/scopes", "min_length")]),
        ({"name": "n", "scopes": "plans:read"}, [("/scopes", "not_a_list")]),
        ({"name": "n", "scopes": {"a": 1}}, [("/scopes", "not_a_list")]),
        ({"name": "n", "scopes": ["plans:read", "root"]}, [("/scopes/1", "invalid_choice")]),
        ({"name": "n", "scopes": [1, None, ["x"]]},
         [("/scopes/0", "invalid_choice"), ("/scopes/1", "null"), ("/scopes/2", "invalid_choice")]),
        ({"name": "n", "scopes": ["plans:read"] * 100}, [("/scopes", "max_length")]),
        ({"name": "n", "scopes": ["plans:read"], "expires_at": "tomorrow"}, [("/expires_at", "no_offset")]),
        ({"name": "n", "scopes": ["plans:read"], "expires_at": "2020-01-01T00:00:00"}, [("/expires_at", "no_offset")]),
        ({"name": "n", "scopes": ["plans:read"], "user_id": "x"}, [("/user_id", "unknown_field")]),
        ({"name": "n", "scopes": ["plans:read"], "id": "x", "prefix": "y"},
         [("/id", "unknown_field"), ("/prefix", "unknown_field")]),
    ],
)  # fmt: skip
def test_bad_body(body: dict[str, Any], errors: list[tuple[str, str]]) -> None:
    _, client = user_with_key()
    client.get(ME)
    before = snapshot()
    problem(client.post(KEYS, body), 400, "validation_failed", errors=errors)
    assert snapshot() == before


def test_expiry_in_the_past() -> None:
    _, client = user_with_key()
    body = {"name": "n", "scopes": ["plans:read"], "expires_at": "2020-01-01T00:00:00Z"}
    problem(
        client.post(KEYS, body), 400, "expires_in_the_past", errors=[("/expires_at", "expires_in_the_past")]
    )
    assert ApiKey.objects.count() == 1


def test_key_gives_no_more_than_it_has() -> None:
    _, client = user_with_key(scopes=["keys:write", "plans:read"])
    response = client.post(KEYS, {"name": "n", "scopes": ["plans:read", "plans:write"]})
    problem(response, 403, "insufficient_scope", errors=[])
    assert ApiKey.objects.count() == 1
    assert client.post(KEYS, {"name": "n", "scopes": ["plans:read"]}).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("GET", KEYS, ["keys:write"]),
        ("POST", KEYS, ["keys:read"]),
        ("DELETE", f"{KEYS}/{{id}}", ["keys:read"]),
    ],
)
def test_missing_scope(method: str, path: str, scopes: list[str]) -> None:
    _, client = user_with_key(scopes=scopes)
    api_key = ApiKey.objects.get()
    response = client.send(method, path.format(id=api_key.id), body={"name": "n", "scopes": ["plans:read"]})
    problem(response, 403, "insufficient_scope", errors=[])
    assert ApiKey.objects.get().revoked_at is None


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ME), ("GET", KEYS), ("POST", KEYS), ("DELETE", f"{KEYS}/00000000-0000-7000-8000-000000000000")],
)
def test_no_key(method: str, path: str) -> None:
    response = ApiClient().send(method, path, body=b"{not even json", content_type="text/plain")
    problem(response, 401, "not_authenticated", errors=[])
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic dXNlcjpwYXNz",
        "trn_a_b",
        "Bearer trn__",
        "Bearer \u00fc",
        "Bearer trn_" + "a" * 12 + "_" + "b" * 50,
        "Bearer " + "a" * 5_000,
    ],
)
def test_bad_authorization_header(header: str) -> None:
    response = ApiClient().get(ME, authorization=header)
    problem(response, 401, "invalid_api_key", errors=[])
    assert response["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


def test_every_dead_key_gets_the_same_answer() -> None:
    user, client = user_with_key()
    wrong_secret = client.key[:-1] + ("a" if client.key[-1] != "a" else "b")
    answers = [ApiClient(wrong_secret).get(ME, x_request_id="same-request")]
    ApiKey.objects.update(expires_at=clock.now())
    answers.append(client.get(ME, x_request_id="same-request"))
    ApiKey.objects.update(expires_at=None)
    api_key_revoke(user_id=user.id, api_key_id=ApiKey.objects.get().id)
    answers.append(client.get(ME, x_request_id="same-request"))
    ApiKey.objects.update(revoked_at=None)
    user.is_active = False
    user.save()
    answers.append(client.get(ME, x_request_id="same-request"))
    for answer in answers:
        problem(answer, 401, "invalid_api_key")
    assert len({answer.content for answer in answers}) == 1
    user.is_active = True
    user.save()
    assert client.get(ME).status_code == 200


def test_revocation_is_at_once_and_repeatable() -> None:
    user, client = user_with_key()
    spare = api_key_create(user_id=user.id, name="spare", scopes=["plans:read"])
    path = f"{KEYS}/{spare.api_key.id}"
    assert ApiClient(spare.key).get(ME).status_code == 200
    response = client.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    problem(ApiClient(spare.key).get(ME), 401, "invalid_api_key")
    at = ApiKey.objects.get(pk=spare.api_key.pk).revoked_at
    assert client.delete(path).status_code == 204
    assert ApiKey.objects.get(pk=spare.api_key.pk).revoked_at == at


def test_other_peoples_key_is_not_found() -> None:
    _, client = user_with_key()
    bob, _ = user_with_key("bob@example.org")
    theirs = ApiKey.objects.get(user=bob)
    unknown = client.delete(f"{KEYS}/00000000-0000-7000-8000-000000000000", x_request_id="same-request")
    found = client.delete(f"{KEYS}/{theirs.id}", x_request_id="same-request")
    one, other = problem(unknown, 404, "not_found"), problem(found, 404, "not_found")
    assert {**one, "instance": ""} == {**other, "instance": ""}
    assert ApiKey.objects.get(pk=theirs.pk).revoked_at is None
    assert [row["id"] for row in client.get(KEYS).json()["data"]] != [str(theirs.id)]


def test_throttled_creation() -> None:
    _, client = user_with_key()
    for number in range(30):
        body = {"name": f"k{number}", "scopes": ["plans:read"]}
        assert client.post(KEYS, body).status_code == 201
    response = client.post(KEYS, {"name": "more", "scopes": ["plans:read"]})
    problem(response, 429, "throttled", retryable=True)
    assert ApiKey.objects.count() == 31
    assert client.get(KEYS).status_code == 200


def test_too_many_keys() -> None:
    user, client = user_with_key()
    for _ in range(49):
        api_key_create(user_id=user.id, name="k", scopes=["plans:read"])
    problem(client.post(KEYS, {"name": "n", "scopes": ["plans:read"]}), 409, "too_many_keys")
    assert ApiKey.objects.count() == 50


def test_authentication_is_one_query() -> None:
    _, client = user_with_key()
    with CaptureQueriesContext(connection) as first:
        assert client.get(ME).status_code == 200
    assert len(first) == 2 + 4, (
        "the key with its user, the note of its use; then what me tells: email, factors, roles, keys"
    )
    with CaptureQueriesContext(connection) as second:
        assert client.get(ME).status_code == 200
    assert len(second) == 1 + 4
    assert 'INNER JOIN "accounts_user"' in second[0]["sql"]
    with CaptureQueriesContext(connection) as refused:
        ApiClient("trn_" + "a" * 12 + "_" + "b" * 50).get(ME)
    assert len(refused) == 1
    with CaptureQueriesContext(connection) as malformed:
        ApiClient("nonsense").get(ME)
    assert len(malformed) == 0


def test_list_is_two_queries_and_creation_seven() -> None:
    _, client = user_with_key()
    client.get(ME)
    with CaptureQueriesContext(connection) as listing:
        client.get(KEYS)
    assert len(listing) == 2
    with CaptureQueriesContext(connection) as creation:
        assert client.post(KEYS, {"name": "n", "scopes": ["plans:read"]}).status_code == 201
    statements = [query["sql"].split()[0] for query in creation if "SAVEPOINT" not in query["sql"]]
    assert statements == ["SELECT", "SELECT", "SELECT", "INSERT", "INSERT"], (
        "key; person locked; keys counted; written; recorded"
    )


def test_last_use_is_noted_once_a_minute() -> None:
    _, client = user_with_key()
    client.get(ME)
    first = ApiKey.objects.get().last_used_at
    assert first is not None
    client.get(ME)
    assert ApiKey.objects.get().last_used_at == first
    earlier = clock.now() - LAST_USED_EVERY - timedelta(seconds=1)
    ApiKey.objects.update(last_used_at=earlier)
    client.get(ME)
    later = ApiKey.objects.get().last_used_at
    assert later is not None
    assert later > earlier


def test_user_create_refuses_what_is_no_email() -> None:
    from apps.accounts.models import User
    from apps.core.errors import Conflict, DomainError

    user_create(email=" Ann@Example.org ")
    with pytest.raises(Conflict):
        user_create(email="ANN@example.ORG")
    for email in ("", "ann", "ann@", "a@b\n.org", "@example.org"):
        with pytest.raises(DomainError):
            user_create(email=email)
    with pytest.raises(DomainError):
        user_create(email="bob@example.org", password="short")
    assert list(User.objects.values_list("email", flat=True)) == ["ann@example.org"]
