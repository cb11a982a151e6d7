"""Everything that goes wrong under /api/ is one kind of document, whoever found it out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import Client, override_settings
from prometheus_client import REGISTRY

from apps.accounts.domain import Scope
from apps.accounts.models import ApiKey
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.core.api.urls import SECRET_IN_THE_CRASH

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.core.api.urls")]
PROBE = "/api/v1/probe"


@pytest.fixture(autouse=True)
def policy_of_the_probe(settings: Any) -> None:
    settings.API_LIMITS = {**settings.API_LIMITS, "probe": "1/day"}


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "/api/v1/", "/api/v2/me", "/api/v1/me/", "/api/v1/%00",
                                  "/api/v1/api-keys/not-a-uuid", "/api/v1/ünknown", "/api/v1/<script>"])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_path_is_a_problem(path: str, method: str) -> None:
    response = ApiClient().send(method, path)
    document = problem(response, 404, "not_found", errors=[])
    assert "<" not in document["instance"]


def test_unknown_path_outside_the_api_stays_a_page() -> None:
    response = ApiClient().get("/nowhere")
    assert (response.status_code, response["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_exact_document_with_the_callers_request_id() -> None:
    response = ApiClient().get("/api/v1/nowhere", x_request_id="caller-0001")
    assert response.json() == {
        "type": "urn:tranche:problem:not_found",
        "title": "Not found",
        "status": 404,
        "detail": "Nothing is here, or nothing that you may see.",
        "instance": "/api/v1/nowhere",
        "code": "not_found",
        "retryable": False,
        "request_id": "caller-0001",
        "errors": [],
    }
    assert response["X-Request-Id"] == "caller-0001"
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "offered", ["short", "a" * 129, "has space 1", "line\nbreak12", "ümläut-0001", "<script>1"]
)
def test_ill_formed_request_id_is_replaced(offered: str) -> None:
    response = ApiClient().get("/api/v1/nowhere", x_request_id=offered)
    document = problem(response, 404, "not_found")
    assert offered not in response["X-Request-Id"]
    assert len(document["request_id"]) == 36


def test_request_id_is_bound_while_the_view_runs_and_gone_afterwards() -> None:
    from apps.core.api.request_ids import request_id_current

    _, client = user_with_key()
    response = client.get(f"{PROBE}/throttled", x_request_id="caller-0002")
    assert response.json() == {"request_id": "caller-0002"}
    assert request_id_current() == ""


@pytest.mark.parametrize("debug", [False, True])
def test_crash_tells_the_caller_nothing(debug: bool, caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(DEBUG=debug):
        response = ApiClient().get(f"{PROBE}/crash")
    problem(response, 500, "internal_error", errors=[], retryable=True)
    # The operator sees in the log what the caller must not see.
    assert SECRET_IN_THE_CRASH in caplog.text
    for leak in ("hunter2", "RuntimeError", "Traceback", "urls.py", "probe_crash"):
        assert leak not in response.content.decode()
        assert leak not in str(response.headers)


def test_each_request_is_counted_once_with_its_time_and_a_crash_by_its_view() -> None:
    view = "tests.core.api.urls.CrashView"
    metrics = {
        "django_http_responses_total_by_status_view_method_total": {
            "view": view,
            "method": "GET",
            "status": "500",
        },
        "django_http_requests_latency_seconds_by_view_method_count": {"view": view, "method": "GET"},
        "django_http_exceptions_total_by_view_total": {"view": view},
    }

    def read() -> list[float]:
        return [REGISTRY.get_sample_value(name, labels) or 0.0 for name, labels in metrics.items()]

    before = read()
    ApiClient().get(f"{PROBE}/crash")
    assert [now - then for now, then in zip(read(), before, strict=True)] == [1.0, 1.0, 1.0]


def test_page_of_a_plain_view_is_replaced() -> None:
    response = ApiClient().get(f"{PROBE}/page")
    assert response.status_code == 418
    assert response["Content-Type"] == "application/problem+json"
    assert b"line 7" not in response.content


def test_wrong_host_is_a_problem() -> None:
    response = Client(raise_request_exception=False).get("/api/v1/health", headers={"host": "evil.example"})
    problem(response, 400, "bad_request")


@pytest.mark.parametrize(
    ("kind", "status", "code", "errors", "retryable"),
    [
        ("domain", 422, "too_small", [("/amount", "too_small")], False),
        ("conflict", 409, "plan_finished", [], False),
        ("missing", 404, "not_found", [], False),
        ("retryable", 503, "unavailable", [], True),
        ("database", 503, "unavailable", [], True),
    ],
)
def test_domain_errors(
    kind: str, status: int, code: str, errors: list[tuple[str, str]], retryable: bool
) -> None:
    response = ApiClient().get(f"{PROBE}/raises/{kind}")
    problem(response, status, code, errors=errors, retryable=retryable)
    assert b"hunter2" not in response.content
    assert response.get("Retry-After") == {"retryable": "7", "database": "1"}.get(kind)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_method_not_allowed(method: str) -> None:
    response = ApiClient().send(method, "/api/v1/health")
    problem(response, 405, "method_not_allowed", errors=[])
    assert response["Allow"] == "GET, HEAD"


def test_method_not_allowed_with_a_key() -> None:
    _, client = user_with_key(scopes=["plans:read"])
    response = client.send("PUT", "/api/v1/api-keys", body={"a": 1})
    problem(response, 405, "method_not_allowed")
    assert response["Allow"] == "GET, POST, HEAD"


def test_throttled() -> None:
    _, client = user_with_key()
    assert client.get(f"{PROBE}/throttled").status_code == 200
    response = client.get(f"{PROBE}/throttled")
    problem(response, 429, "throttled", retryable=True)
    assert 0 < int(response["Retry-After"]) <= 86_400


def test_browser_of_an_allowed_origin_may_send_and_read_what_the_api_needs() -> None:
    origin = "https://app.example.org"
    with override_settings(CORS_ALLOWED_ORIGINS=[origin]):
        preflight = ApiClient().send(
            "OPTIONS",
            "/api/v1/api-keys",
            headers={"origin": origin, "access_control_request_method": "POST"},
        )
        answer = ApiClient().get("/api/v1/nowhere", origin=origin)
        other = ApiClient().get("/api/v1/nowhere", origin="https://evil.example")
    assert preflight.status_code == 200
    assert "idempotency-key" in preflight["Access-Control-Allow-Headers"]
    problem(answer, 404, "not_found")
    assert answer["Access-Control-Allow-Origin"] == origin
    assert "X-Request-Id" in answer["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in other


@dataclass(frozen=True)
class Sent:
    """A request that ends in a problem."""

    method: str
    path: str
    status: int
    code: str
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


PROBLEMS = [
    Sent("POST", "/api/v1/api-keys", 400, "malformed_json", b"{"),
    Sent("POST", "/api/v1/api-keys", 400, "bad_request", b"{}", headers={"content_length": "1e3"}),
    Sent("POST", "/api/v1/api-keys", 400, "validation_failed", b'{"name": 1}'),
    Sent("GET", "/api/v1/me", 401, "not_authenticated", headers={"authorization": ""}),
    Sent("GET", "/api/v1/me", 401, "invalid_api_key", headers={"authorization": "Bearer trn_x"}),
    Sent("POST", f"{PROBE}/everything", 403, "insufficient_scope", b"{}"),
    Sent("GET", "/api/v1/nowhere", 404, "not_found"),
    Sent("PUT", "/api/v1/health", 405, "method_not_allowed"),
    Sent("GET", f"{PROBE}/raises/conflict", 409, "plan_finished"),
    Sent("POST", "/api/v1/api-keys", 413, "body_too_large", b" " * (10 * 1024 + 1)),
    Sent("POST", "/api/v1/nowhere", 413, "body_too_large", headers={"content_length": "9" * 5000}),
    Sent(
        "POST", "/api/v1/api-keys", 415, "unsupported_media_type", b"a=1", "application/x-www-form-urlencoded"
    ),
    Sent("GET", f"{PROBE}/page", 418, "bad_request"),
    Sent("GET", f"{PROBE}/raises/domain", 422, "too_small"),
    Sent("GET", f"{PROBE}/throttled", 429, "throttled"),
    Sent("GET", f"{PROBE}/crash", 500, "internal_error"),
    Sent("GET", f"{PROBE}/raises/retryable", 503, "unavailable"),
]


@pytest.mark.parametrize("sent", PROBLEMS, ids=lambda sent: f"{sent.status} {sent.code}")
def test_page_of_an_allowed_origin_may_read_every_problem_and_no_other_page(sent: Sent) -> None:
    _, client = user_with_key(scopes=[scope for scope in Scope if scope != Scope.PLANS_WRITE])
    if sent.status == 429:
        assert client.get(sent.path).status_code == 200
    with override_settings(CORS_ALLOWED_ORIGINS=["https://app.example.org"]):
        mine, others = (
            client.send(
                sent.method,
                sent.path,
                body=sent.body,
                content_type=sent.content_type,
                headers={**sent.headers, "origin": origin},
            )
            for origin in ("https://app.example.org", "https://evil.example")
        )
    for response in (mine, others):
        assert (response.status_code, response.json()["code"]) == (sent.status, sent.code)
        assert "origin" in response["Vary"]
    assert mine["Access-Control-Allow-Origin"] == "https://app.example.org"
    assert {"X-Request-Id", "Retry-After"} <= set(mine["Access-Control-Expose-Headers"].split(", "))
    assert "Access-Control-Allow-Origin" not in others


@pytest.mark.parametrize("size", [10 * 1024 + 1, 100_000])
def test_body_too_large(size: int) -> None:
    _, client = user_with_key()
    before = ApiKey.objects.count()
    response = client.post("/api/v1/api-keys", b'{"name": "' + b"a" * size + b'"}')
    problem(response, 413, "body_too_large", errors=[])
    assert ApiKey.objects.count() == before


def test_body_of_exactly_the_limit_is_read() -> None:
    _, client = user_with_key()
    body = b'{"name": "x", "scopes": ["plans:read"]}'
    response = client.post("/api/v1/api-keys", body + b" " * (10 * 1024 - len(body)))
    assert response.status_code == 201


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "9" * 5000])
def test_nonsense_content_length(length: str) -> None:
    response = Client(raise_request_exception=False).post(
        "/api/v1/api-keys", b"{}", content_type="application/json", CONTENT_LENGTH=length
    )
    assert response.status_code in (400, 413)
    assert response["Content-Type"] == "application/problem+json"
