"""What staff and people change is written down, in the transaction of the change, with before and after."""

from contextlib import suppress
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.test import Client

from apps.accounts.audit.models import AuditRecord
from apps.accounts.models import ApiKey, User
from apps.accounts.roles import Role, role_grant
from apps.accounts.services import api_key_create, user_create, user_freeze
from apps.chain.models import Network, RpcEndpoint
from apps.core.models import Asset
from apps.treasury.models import Pause
from tests.core.api.support import user_with_key

pytestmark = pytest.mark.django_db


def office(*roles: Role, email: str = "op@example.org") -> tuple[User, Client]:
    user = user_create(email=email)
    for role in roles:
        role_grant(user_id=user.pk, role=role, actor="test")
    client = Client(REMOTE_ADDR="203.0.113.9")
    client.force_login(User.objects.get(pk=user.pk))
    return user, client


def told(action: str) -> AuditRecord:
    return AuditRecord.objects.get(action=action)


def test_a_key_over_the_api_is_recorded_with_where_it_came_from() -> None:
    user, client = user_with_key()
    mine = ApiKey.objects.get()

    answer = client.post("/api/v1/api-keys", {"name": "laptop", "scopes": ["keys:read"]})
    assert answer.status_code == 201
    assert client.delete(f"/api/v1/api-keys/{answer.json()['id']}").status_code == 204
    assert client.delete(f"/api/v1/api-keys/{answer.json()['id']}").status_code == 204

    made = AuditRecord.objects.get(action="api_key.created", target_id=answer.json()["id"])
    assert (made.actor_id, made.via, made.address) == (user.pk, f"api_key:{mine.pk}", "127.0.0.1")
    assert made.request_id == answer["X-Request-Id"]
    assert made.before is None
    assert made.after is not None
    assert (made.after["name"], made.after["scopes"]) == ("laptop", ["keys:read"])
    assert answer.json()["key"].rpartition("_")[2] not in str(made.after)
    ended = told("api_key.revoked")
    assert ended.before == {"revoked_at": None}
    assert ended.target_id == answer.json()["id"]


def test_a_form_s_fields_are_recorded_before_and_after() -> None:
    user, client = office(Role.OPERATOR)
    asset = Asset.objects.create(code="USDC", name="USD Coin", decimals=6)

    assert client.post(f"/admin/core/asset/{asset.pk}/change/", {"name": "Dollar"}).status_code == 302

    record = told("admin.core.asset.change")
    assert (record.actor_id, record.target_type, record.target_id) == (user.pk, "asset", str(asset.pk))
    assert (record.before, record.address) == ({"name": "USD Coin"}, "203.0.113.9")
    assert record.after is not None
    assert record.after["name"] == "Dollar"
    assert LogEntry.objects.count() == 1


def test_what_is_added_is_recorded_and_what_fails_is_not() -> None:
    _, client = office(Role.OPERATOR)
    assert client.post("/admin/core/asset/add/", {"code": "USDC"}).status_code == 200
    assert not AuditRecord.objects.filter(action__startswith="admin.core").exists()

    body = {"code": "USDC", "name": "USD Coin", "decimals": 6}
    assert client.post("/admin/core/asset/add/", body).status_code == 302

    record = told("admin.core.asset.add")
    assert record.before == {}
    assert record.after is not None
    assert (record.after["code"], record.after["decimals"]) == ("USDC", 6)


def test_a_pause_and_its_lifting_are_recorded() -> None:
    user, client = office(Role.TREASURER)
    body = {"activity": "withdrawing", "asset": "", "reason": "looking into it"}
    assert client.post("/admin/treasury/pause/add/", body).status_code == 302
    pause = Pause.objects.get()

    action = {"action": "lift", "_selected_action": str(pause.pk)}
    assert client.post("/admin/treasury/pause/", action).status_code == 302

    made, lifted = told("admin.treasury.pause.add"), told("admin.treasury.pause.lift")
    assert (made.target_id, lifted.target_id, lifted.actor_id) == (str(pause.pk), str(pause.pk), user.pk)
    assert lifted.before is not None
    assert lifted.after is not None
    assert (lifted.before["lifted_at"], lifted.before["lifted_by"]) == (None, "")
    assert (lifted.after["lifted_by"], lifted.after["said"]) == ("op@example.org", "Lifted.")


def network() -> Network:
    ether = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    return Network.objects.create(
        name="test", chain_id=31337, native_asset=ether, confirmations=1, block_time_seconds=1,
        max_fee_cap_units=10**12, priority_fee_cap_units=10**10,
    )  # fmt: skip


def test_an_endpoint_s_url_is_in_no_record() -> None:
    _, client = office(Role.OPERATOR)
    url = "https://node.example/v2/super-secret-key"
    body = {"network": network().pk, "name": "main", "url": url, "priority": 10, "enabled": "on"}

    assert client.post("/admin/chain/rpcendpoint/add/", body).status_code == 302

    record = told("admin.chain.rpcendpoint.add")
    assert record.target_id == str(RpcEndpoint.objects.get().pk)
    assert record.after is not None
    assert record.after["url"] == "[not shown]"
    assert "super-secret-key" not in str((record.before, record.after))
    endpoint = RpcEndpoint.objects.get()
    delete = {"action": "delete_selected", "_selected_action": str(endpoint.pk), "post": "yes"}
    assert client.post("/admin/chain/rpcendpoint/", delete).status_code == 302
    gone = told("admin.chain.rpcendpoint.delete")
    assert gone.before is not None
    assert (gone.before["name"], gone.before["url_ciphertext"], gone.after) == ("main", "[not shown]", None)


def test_halting_is_recorded_row_by_row() -> None:
    row = network()
    _, client = office(Role.OPERATOR)
    action = {"action": "halt", "_selected_action": str(row.pk)}

    assert client.post("/admin/chain/network/", action).status_code == 302

    record = told("admin.chain.network.halt")
    assert record.before is not None
    assert record.after is not None
    assert (record.before["halted_at"], record.after["halted_reason"]) == (None, "halted by op@example.org")


def test_freezing_in_the_admin_needs_a_reason_and_is_recorded_once() -> None:
    user, client = office(Role.OPERATOR)
    ann = user_create(email="ann@example.org")
    body = {"action": "freeze", "_selected_action": str(ann.pk)}

    client.post("/admin/accounts/user/", body)
    assert not AuditRecord.objects.filter(action="person.frozen").exists()
    client.post("/admin/accounts/user/", {**body, "reason": "a stolen phone"})
    client.post("/admin/accounts/user/", {**body, "reason": "again"})

    record = told("person.frozen")
    assert (record.actor_id, record.target_id) == (user.pk, str(ann.pk))
    assert record.after == {"frozen": True, "reason": "a stolen phone"}


def test_a_change_that_is_undone_leaves_no_record() -> None:
    ann = user_create(email="ann@example.org")
    with suppress(ZeroDivisionError), transaction.atomic():
        user_freeze(user_id=ann.pk, reason="x")
        _ = 1 / 0
    ann.refresh_from_db()
    assert ann.frozen_at is None
    assert not AuditRecord.objects.filter(action="person.frozen").exists()


def test_a_password_that_is_set_is_recorded_without_it() -> None:
    _, client = office(Role.ADMIN)
    ann = user_create(email="ann@example.org")
    body = {
        "password1": "correct horse battery",
        "password2": "correct horse battery",
        "usable_password": "true",
    }

    assert client.post(f"/admin/accounts/user/{ann.pk}/password/", body).status_code == 302

    record = AuditRecord.objects.get(action="admin.accounts.user.change", target_id=str(ann.pk))
    assert "correct horse" not in str((record.before, record.after))
    assert "argon2" not in str((record.before, record.after))


def searched(client: Client, term: str) -> Any:
    page = client.get("/admin/accounts/auditrecord/", {"q": term})
    assert page.status_code == 200
    return [str(row.action) for row in page.context["cl"].result_list]


def test_the_log_is_searched_by_person_target_and_action_and_shows_before_and_after() -> None:
    _, client = office(Role.ADMIN)
    ann = user_create(email="ann@example.org")
    key = api_key_create(user_id=ann.pk, name="n", scopes=["keys:read"]).api_key
    user_freeze(user_id=ann.pk, reason="because <b>", actor="test")

    assert set(searched(client, "Ann@example.org")) == {"api_key.created", "person.frozen"}
    assert set(searched(client, str(ann.pk))) == {"api_key.created", "person.frozen"}
    assert searched(client, str(key.pk)) == ["api_key.created"]
    assert searched(client, "person.fro") == ["person.frozen"]
    assert searched(client, "nobody@example.org") == []
    page = client.get(f"/admin/accounts/auditrecord/{told('person.frozen').pk}/change/").content.decode()
    assert "because &lt;b&gt;" in page
    assert (
        client.post(f"/admin/accounts/auditrecord/{told('person.frozen').pk}/change/", {}).status_code == 403
    )


def test_the_log_s_list_takes_the_same_queries_however_many_rows(django_assert_num_queries: Any) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    _, client = office(Role.ADMIN)
    client.get("/admin/accounts/auditrecord/")
    with CaptureQueriesContext(connection) as few:
        client.get("/admin/accounts/auditrecord/")
    for number in range(20):
        user_create(email=f"p{number}@example.org")
        user_freeze(user_id=User.objects.latest("created_at").pk, reason="x", actor="test")
    with CaptureQueriesContext(connection) as many:
        client.get("/admin/accounts/auditrecord/")
    assert len(many) == len(few)
