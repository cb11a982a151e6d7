"""A key works from its networks only, and makes no key that works from elsewhere or for longer."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from apps.accounts.audit.models import AuditRecord
from apps.accounts.domain import Scope
from apps.accounts.models import ApiKey, User
from apps.accounts.roles import Role, role_grant
from apps.accounts.selectors import api_key_authenticate
from apps.accounts.services import api_key_create, user_create
from apps.core import clock
from apps.core.errors import DomainError

pytestmark = pytest.mark.django_db

KEYS = "/api/v1/api-keys"


def client_of(user: User, address: str = "127.0.0.1", **terms: Any) -> APIClient:
    created = api_key_create(user_id=user.pk, name="n", scopes=list(Scope), **terms)
    client = APIClient(REMOTE_ADDR=address)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {created.key}")
    return client


@pytest.mark.parametrize(
    ("networks", "address", "status"),
    [
        ([], "198.51.100.7", 200),
        (["203.0.113.0/24"], "203.0.113.200", 200),
        (["203.0.113.0/24"], "203.0.114.1", 401),
        (["203.0.113.7"], "203.0.113.7", 200),
        (["203.0.113.7"], "203.0.113.8", 401),
        (["2001:db8::/32"], "2001:db8:ffff::1", 200),
        (["2001:db8::/32"], "2001:db9::1", 401),
        (["203.0.113.0/24"], "::ffff:203.0.113.9", 200),
        (["::ffff:203.0.113.0/120"], "203.0.113.9", 200),
        (["203.0.113.0/24", "2001:db8::/32"], "2001:db8::1", 200),
        (["0.0.0.0/0"], "2001:db8::1", 401),
        (["203.0.113.0/24"], "", 401),
    ],
)
def test_where_a_key_works(networks: list[str], address: str, status: int) -> None:
    answer = client_of(user_create(email="ann@example.org"), address, networks=networks).get("/api/v1/me")

    assert answer.status_code == status
    if status == 401:
        assert answer.json()["code"] == "invalid_api_key"


def test_who_does_not_say_where_is_refused() -> None:
    user = user_create(email="ann@example.org")
    limited = api_key_create(user_id=user.pk, name="n", scopes=["keys:read"], networks=["127.0.0.1"])

    assert api_key_authenticate(text=limited.key) is None
    assert api_key_authenticate(text=limited.key, address="127.0.0.1") is not None


def test_networks_are_given_over_the_api_and_kept_in_one_form() -> None:
    client = client_of(user_create(email="ann@example.org"))
    body = {"name": "n", "scopes": ["keys:read"], "networks": ["2001:0DB8::/32", "10.0.0.1", "10.0.0.1/32"]}

    answer = client.post(KEYS, body, format="json")

    assert answer.status_code == 201, answer.json()
    assert answer.json()["networks"] == ["10.0.0.1/32", "2001:db8::/32"]
    assert client.get(KEYS).json()["data"][0]["networks"] == ["10.0.0.1/32", "2001:db8::/32"]


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "example.org", "", "fe80::1%eth0", "1"])
def test_what_is_no_network_is_refused(network: str) -> None:
    client = client_of(user_create(email="ann@example.org"))

    body = {"name": "n", "scopes": ["keys:read"], "networks": [network]}
    answer = client.post(KEYS, body, format="json")

    assert answer.status_code in (400, 422)
    assert answer.json()["errors"][0]["pointer"] == "/networks/0"
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize(
    ("wanted", "status", "kept"),
    [
        (["203.0.113.0/25"], 201, ["203.0.113.0/25"]),
        ([], 201, ["203.0.113.0/24"]),
        (["203.0.112.0/23"], 403, None),
        (["2001:db8::/32"], 403, None),
        (["203.0.113.0/25", "0.0.0.0/0"], 403, None),
    ],
)
def test_a_key_makes_none_for_elsewhere(wanted: list[str], status: int, kept: list[str] | None) -> None:
    user = user_create(email="ann@example.org")
    client = client_of(user, "203.0.113.5", networks=["203.0.113.0/24"])

    answer = client.post(KEYS, {"name": "n", "scopes": ["keys:read"], "networks": wanted}, format="json")

    assert answer.status_code == status
    assert ApiKey.objects.count() == (2 if kept else 1)
    if kept:
        assert answer.json()["networks"] == kept


def test_a_key_makes_none_that_outlives_it() -> None:
    user, soon = user_create(email="ann@example.org"), clock.now() + timedelta(days=1)
    client = client_of(user, expires_at=soon)
    later = (soon + timedelta(seconds=1)).isoformat()

    refused = client.post(KEYS, {"name": "n", "scopes": ["keys:read"], "expires_at": later}, format="json")
    silent = client.post(KEYS, {"name": "n", "scopes": ["keys:read"]}, format="json")

    assert refused.status_code == 403
    assert silent.status_code == 201
    assert ApiKey.objects.get(pk=silent.json()["id"]).expires_at == soon


def test_networks_are_changed_in_the_admin_at_once_and_recorded() -> None:
    user, boss = user_create(email="ann@example.org"), user_create(email="boss@example.org")
    role_grant(user_id=boss.pk, role=Role.ADMIN, actor="test")
    client, key = client_of(user), ApiKey.objects.get()
    assert client.get("/api/v1/me").status_code == 200
    office = Client()
    office.force_login(User.objects.get(pk=boss.pk))
    page = f"/admin/accounts/apikey/{key.pk}/change/"

    bad = office.post(page, {"networks": "10.0.0.1/8", "expires_at_0": "", "expires_at_1": ""})
    good = office.post(
        page, {"networks": "10.0.0.0/8\n2001:db8::/32", "expires_at_0": "", "expires_at_1": ""}
    )

    assert (bad.status_code, good.status_code) == (200, 302)
    key.refresh_from_db()
    assert key.networks == ["10.0.0.0/8", "2001:db8::/32"]
    assert client.get("/api/v1/me").status_code == 401
    record = AuditRecord.objects.get(action="api_key.limited")
    assert (record.actor_id, record.target_id, record.via) == (boss.pk, str(key.pk), "admin")
    assert record.before is not None
    assert record.after is not None
    assert (record.before["networks"], record.after["networks"]) == ([], ["10.0.0.0/8", "2001:db8::/32"])


def test_too_many_networks() -> None:
    user = user_create(email="ann@example.org")
    with pytest.raises(DomainError, match="At most 20"):
        api_key_create(
            user_id=user.pk, name="n", scopes=["keys:read"], networks=[f"10.0.{n}.0/24" for n in range(21)]
        )
