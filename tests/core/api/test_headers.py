"""Every answer carries every security header, whoever gives it: view, middleware, page, file or refusal."""

from typing import Any

import pytest
from django.conf import settings as django_settings
from django.http.response import HttpResponseBase
from django.test import Client

from apps.accounts.services import user_create
from tests.core.api.support import user_with_key

HSTS = "max-age=31536000; includeSubDomains; preload"
FEATURES = ("camera", "geolocation", "microphone", "payment", "usb")
ORIGIN = "https://app.example.org"


@pytest.fixture(autouse=True)
def production_like(settings: Any) -> None:
    """What production adds; `tests/house/test_production.py` holds it to that."""
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    settings.SECURE_HSTS_PRELOAD = True
    settings.SESSION_COOKIE_SECURE = True
    settings.CSRF_COOKIE_SECURE = True
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]


def check(answer: HttpResponseBase) -> None:
    headers = answer.headers
    assert headers["Strict-Transport-Security"] == HSTS
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    for feature in FEATURES:
        assert f"{feature}=()" in headers["Permissions-Policy"]
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] in ("'none'", "'self'")
    assert {"base-uri", "form-action"} <= set(policy)
    assert "http:" not in headers["Content-Security-Policy"]
    assert "*" not in headers["Content-Security-Policy"]
    assert not {"Server", "X-Powered-By"} & set(headers)
    for cookie in answer.cookies.values():
        assert cookie["secure"], cookie
        assert cookie["samesite"] in ("Lax", "Strict"), cookie


ANSWERS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "api": ("GET", "/api/v1/health", 200, {}),
    "api head": ("HEAD", "/api/v1/health", 200, {}),
    "api 401": ("GET", "/api/v1/me", 401, {}),
    "api 404": ("GET", "/api/v1/nowhere", 404, {}),
    "api 405": ("PUT", "/api/v1/health", 405, {}),
    "api 413 of the middleware": ("POST", "/api/v1/api-keys", 413, {"data": b" " * 20_000}),
    "api 400 of the middleware": ("POST", "/api/v1/api-keys", 400, {"CONTENT_LENGTH": "1e3"}),
    "api 500": ("GET", "/api/v1/probe/crash", 500, {}),
    "api 503": ("GET", "/api/v1/probe/raises/retryable", 503, {}),
    "page of a plain view, replaced": ("GET", "/api/v1/probe/page", 418, {}),
    "unknown host": ("GET", "/api/v1/health", 400, {"headers": {"host": "evil.example"}}),
    "unknown host of a page": ("GET", "/admin/login/", 400, {"headers": {"host": "evil.example"}}),
    "preflight": (
        "OPTIONS", "/api/v1/me", 200,
        {"headers": {"origin": ORIGIN, "access-control-request-method": "GET"}},
    ),
    "preflight of a stranger": (
        "OPTIONS", "/api/v1/me", 200,
        {"headers": {"origin": "https://evil.example", "access-control-request-method": "GET"}},
    ),
    "schema": ("GET", "/api/v1/schema", 200, {}),
    "docs": ("GET", "/api/v1/docs", 200, {}),
    "docs script": ("GET", "/api/v1/docs?script=", 200, {}),
    "redoc": ("GET", "/api/v1/redoc", 200, {}),
    "admin, not signed in": ("GET", "/admin/", 302, {}),
    "admin login": ("GET", "/admin/login/", 200, {}),
    "admin login refused": ("POST", "/admin/login/", 200, {"data": b"username=a&password=b"}),
    "admin 404": ("GET", "/admin/nowhere/", 302, {}),
    "page 404": ("GET", "/nowhere", 404, {}),
    "static file": ("GET", "/static/unfold/css/styles.css", 200, {}),
    "static 404": ("GET", "/static/nowhere.css", 404, {}),
    "metrics": ("GET", "/metrics", 200, {}),
    "metrics refused": ("GET", "/metrics", 403, {"REMOTE_ADDR": "8.8.8.8"}),
}  # fmt: skip


@pytest.mark.django_db
@pytest.mark.urls("tests.core.api.urls")
@pytest.mark.parametrize("name", ANSWERS)
def test_every_kind_of_answer_has_every_header(name: str) -> None:
    method, path, status, more = ANSWERS[name]
    kind = "application/x-www-form-urlencoded" if path.startswith("/admin") else "application/json"
    sender = Client(raise_request_exception=False)
    answer = sender.generic(method, path, more.pop("data", b""), content_type=kind, secure=True, **more)
    assert answer.status_code == status, answer.content[:500]
    check(answer)
    answer.close()


@pytest.mark.django_db
def test_limits_and_people_have_them_too(settings: Any) -> None:
    settings.API_LIMITS = {**settings.API_LIMITS, "sign_in": "1/minute", "api": "1/minute"}
    _, person = user_with_key()
    for _ in range(2):
        answer = person.client.get(
            "/api/v1/me", secure=True, headers={"Authorization": f"Bearer {person.key}"}
        )
        check(answer)
        assert answer["Cache-Control"] == "no-store"
    assert answer.status_code == 429
    settings.TRUSTED_PROXY_HOPS = 1
    for _ in range(2):
        answer = Client(headers={"X-Forwarded-For": "203.0.113.200"}).post("/admin/login/", secure=True)
        check(answer)
    assert answer.status_code == 429


@pytest.mark.django_db
def test_signed_in_pages_and_csrf_refusals() -> None:
    user_create(email="root@example.org", password="a long password 1", is_staff=True)
    sender = Client(enforce_csrf_checks=True)
    page = sender.get("/admin/login/", secure=True)
    check(page)
    refused = sender.post("/admin/login/", {"username": "root@example.org", "password": "x"}, secure=True)
    assert refused.status_code == 403
    check(refused)
    answer = sender.post(
        "/admin/login/",
        {
            "username": "root@example.org",
            "password": "a long password 1",
            "csrfmiddlewaretoken": sender.cookies["csrftoken"].value,
        },
        secure=True,
        headers={"Referer": "https://testserver/admin/login/"},
    )
    assert answer.status_code == 302
    check(answer)
    cookie = answer.cookies[django_settings.SESSION_COOKIE_NAME]
    assert cookie["httponly"]
    check(sender.get("/admin/", secure=True))


@pytest.mark.django_db
def test_plain_http_is_redirected_with_the_headers_but_no_hsts(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    answer = Client().get("/api/v1/me")
    assert (answer.status_code, answer["Location"]) == (301, "https://testserver/api/v1/me")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "Content-Security-Policy" in answer
    assert "Strict-Transport-Security" not in answer  # a browser ignores it there (RFC 6797, section 8.1)
