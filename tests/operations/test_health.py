"""Liveness asks nobody, readiness asks everybody and says how long it took, metrics are not for everybody."""

import os
from typing import Any

import pytest
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from apps.operations import checks
from tests.core.api.support import ApiClient, problem

HEALTH, READY = "/api/v1/health", "/api/v1/health/ready"


@pytest.fixture(autouse=True)
def _migrations_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_migrated", False)


def test_alive_without_any_dependency() -> None:
    # Without the django_db mark every database access is an error.
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        response = ApiClient().get(HEALTH)
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": "0.1.0"}
    assert response["Cache-Control"] == "no-store"


@pytest.mark.django_db
def test_ready_with_the_time_of_each_check() -> None:
    response = ApiClient().get(READY)
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "ok"), body
    assert [(check["name"], check["ok"], check["error"]) for check in body["checks"]] == [
        ("postgresql", True, ""),
        ("redis", True, ""),
        ("migrations", True, ""),
    ]
    assert all(check["milliseconds"] > 0 for check in body["checks"])
    # Migrations, once found applied, are not asked for again.
    with CaptureQueriesContext(connection) as queries:
        ApiClient().get(READY)
    assert [query["sql"] for query in queries] == ["SELECT 1"]


@pytest.mark.django_db
def test_not_ready_without_redis() -> None:
    with override_settings(REDIS_URL="redis://someone:hunter2@127.0.0.1:1/0"):
        response = ApiClient().get(READY)
    document = problem(response, 503, "not_ready", errors=[], retryable=True)
    assert document["detail"] == "Not ready: redis."
    assert [(check["name"], check["ok"]) for check in document["checks"]] == [
        ("postgresql", True),
        ("redis", False),
        ("migrations", True),
    ]
    assert b"hunter2" not in response.content
    assert b"127.0.0.1" not in response.content


@pytest.mark.django_db
def test_not_ready_with_unapplied_migrations() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'accounts'")
    document = problem(ApiClient().get(READY), 503, "not_ready", retryable=True)
    assert document["detail"] == "Not ready: migrations."
    assert document["checks"][2]["error"] == "NotReadyError"


@pytest.mark.parametrize("path", [HEALTH, READY])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_only_reads(path: str, method: str) -> None:
    problem(ApiClient().send(method, path, body={"a": 1}), 405, "method_not_allowed")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("meta", "token", "status"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, "", 200),
        ({"REMOTE_ADDR": "10.1.2.3"}, "", 200),
        ({"REMOTE_ADDR": "fd00::1"}, "", 200),
        ({"REMOTE_ADDR": "8.8.8.8"}, "", 403),
        ({"REMOTE_ADDR": ""}, "", 403),
        ({"REMOTE_ADDR": "nonsense"}, "", 403),
        # A proxy on the private network speaks for somebody outside.
        ({"REMOTE_ADDR": "10.1.2.3", "HTTP_X_FORWARDED_FOR": "10.0.0.1"}, "", 403),
        ({"REMOTE_ADDR": "8.8.8.8", "HTTP_AUTHORIZATION": "Bearer "}, "", 403),
        ({"REMOTE_ADDR": "8.8.8.8", "HTTP_AUTHORIZATION": "Bearer right-token"}, "right-token", 200),
        ({"REMOTE_ADDR": "8.8.8.8", "HTTP_AUTHORIZATION": "Bearer wrong-token"}, "right-token", 403),
        ({"REMOTE_ADDR": "8.8.8.8", "HTTP_AUTHORIZATION": "Bearer r\u00efght"}, "right-token", 403),
    ],
)
def test_metrics_are_for_the_near_and_the_trusted(meta: dict[str, Any], token: str, status: int) -> None:
    with override_settings(METRICS_TOKEN=token):
        response = Client().get("/metrics", **meta)
    assert response.status_code == status
    if status == 200:
        assert b"django_http_responses_total_by_status_view_method_total" in response.content
    else:
        problem(response, 403, "permission_denied")
        assert b"django_http" not in response.content


@pytest.mark.django_db
def test_metrics_do_not_name_people_or_keys() -> None:
    ApiClient("trn_" + "a" * 12 + "_" + "b" * 50).get("/nowhere")
    content = Client().get("/metrics", REMOTE_ADDR="127.0.0.1").content.decode()
    assert "trn_" not in content
    assert os.environ.get("REDIS_URL", "redis://") not in content
