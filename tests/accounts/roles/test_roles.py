"""Roles come from one table; giving and taking them acts at once, is written down, and cannot lock everybody out."""

import threading
from io import StringIO

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from apps.accounts.audit.models import AuditRecord
from apps.accounts.models import User
from apps.accounts.roles import PERMISSIONS, Role, role_grant, role_revoke, roles_of, roles_sync
from apps.accounts.services import user_create
from apps.core.errors import Conflict, DomainError

pytestmark = pytest.mark.django_db


def person(email: str, *roles: Role) -> User:
    user = user_create(email=email)
    for role in roles:
        role_grant(user_id=user.pk, role=role, actor="test")
    return User.objects.get(pk=user.pk)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def permissions_of(role: Role) -> set[str]:
    rows = Permission.objects.filter(group__name=role).values_list("content_type__app_label", "codename")
    return {f"{app}.{codename}" for app, codename in rows}


def test_groups_say_what_the_table_says_after_a_migrate() -> None:
    assert {role: permissions_of(role) for role in Role} == {role: set(PERMISSIONS[role]) for role in Role}


def test_sync_puts_back_what_somebody_changed_and_says_so() -> None:
    support = Group.objects.get(name="support")
    support.permissions.add(
        Permission.objects.get(codename="change_withdrawal", content_type__app_label="withdrawals")
    )
    support.permissions.remove(Permission.objects.get(codename="view_plan", content_type__app_label="plans"))

    out = StringIO()
    call_command("roles", "sync", stdout=out)

    assert out.getvalue().splitlines() == [
        "support + plans.view_plan",
        "support - withdrawals.change_withdrawal",
    ]
    assert permissions_of(Role.SUPPORT) == set(PERMISSIONS[Role.SUPPORT])
    record = AuditRecord.objects.filter(action="role.synced").latest("id")
    assert (record.before, record.after) == (
        {"removed": ["withdrawals.change_withdrawal"]},
        {"added": ["plans.view_plan"]},
    )
    assert roles_sync() == {}


def test_support_changes_nothing_at_all() -> None:
    assert {name.split(".")[1].split("_")[0] for name in PERMISSIONS[Role.SUPPORT]} == {"view"}


def test_money_is_the_treasurers_alone() -> None:
    moving = {
        "withdrawals.change_withdrawal", "withdrawals.change_withdrawalrule", "deposits.change_deposit",
        "deposits.change_sweep", "ledger.change_journal", "chain.change_wallet", "chain.change_walletcap",
        "chain.change_signerrule", "treasury.change_pause",
    }  # fmt: skip
    for role in (Role.CUSTOMER, Role.SUPPORT, Role.OPERATOR, Role.ADMIN):
        assert not PERMISSIONS[role] & moving, role
    assert PERMISSIONS[Role.TREASURER] >= moving


def test_every_page_of_ours_is_shown_to_somebody() -> None:
    everything = frozenset().union(*PERMISSIONS.values())
    pages = {
        f"{model._meta.app_label}.view_{model._meta.model_name}"
        for model in admin.site._registry
        if model.__module__.startswith("apps.")
    }
    assert not pages - everything


def test_a_role_that_is_taken_is_gone_on_the_next_request() -> None:
    user = person("op@example.org", Role.OPERATOR)
    client = signed_in(user)
    assert client.get("/admin/plans/plan/").status_code == 200

    role_revoke(user_id=user.pk, role=Role.OPERATOR, actor="test")

    answer = client.get("/admin/plans/plan/")
    assert (answer.status_code, answer["Location"].split("?")[0]) == (302, "/admin/login/")


def test_one_of_two_roles_that_is_taken_leaves_the_other() -> None:
    user = person("both@example.org", Role.SUPPORT, Role.TREASURER)
    client = signed_in(user)
    assert client.get("/admin/chain/wallet/").status_code == 200

    role_revoke(user_id=user.pk, role=Role.TREASURER, actor="test")

    assert client.get("/admin/chain/wallet/").status_code == 403
    assert client.get("/admin/plans/plan/").status_code == 200


def test_an_action_that_is_no_longer_theirs_is_refused_and_does_nothing() -> None:
    user, other = person("boss@example.org", Role.SUPPORT), person("ann@example.org")
    body = {"action": "freeze", "reason": "because", "_selected_action": str(other.pk)}

    assert signed_in(user).post("/admin/accounts/user/", body).status_code == 403

    other.refresh_from_db()
    assert other.frozen_at is None


def test_granting_twice_is_granting_once_and_both_directions_are_recorded() -> None:
    boss, user = person("boss@example.org", Role.ADMIN), person("ann@example.org")

    assert role_grant(user_id=user.pk, role=Role.SUPPORT, actor=boss)
    assert not role_grant(user_id=user.pk, role=Role.SUPPORT, actor=boss)
    assert role_revoke(user_id=user.pk, role=Role.SUPPORT, actor=boss)

    told = AuditRecord.objects.filter(target_id=str(user.pk), actor_id=boss.pk).order_by("id")
    assert [(one.action, one.before, one.after) for one in told] == [
        ("role.granted", {"roles": []}, {"roles": ["support"]}),
        ("role.revoked", {"roles": ["support"]}, {"roles": []}),
    ]
    user.refresh_from_db()
    assert not user.is_staff


def test_nobody_gives_themselves_a_role_and_somebody_can_always_give_one() -> None:
    boss = person("boss@example.org", Role.ADMIN)

    with pytest.raises(Conflict, match="their own roles"):
        role_grant(user_id=boss.pk, role=Role.TREASURER, actor=boss)
    with pytest.raises(Conflict, match="Somebody has to be able"):
        role_revoke(user_id=boss.pk, role=Role.ADMIN, actor="test")
    with pytest.raises(DomainError, match="Everybody is a customer"):
        role_grant(user_id=boss.pk, role=Role.CUSTOMER, actor="test")
    assert roles_of(boss) == ["admin"]


@pytest.mark.django_db(transaction=True)
def test_two_administrators_cannot_end_each_other() -> None:
    people = [person(f"boss{number}@example.org", Role.ADMIN) for number in range(2)]
    refused: list[str] = []
    start = threading.Barrier(2)

    def take(user: User, by: User) -> None:
        start.wait()
        try:
            role_revoke(user_id=user.pk, role=Role.ADMIN, actor=by)
        except Conflict as error:
            refused.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=pair) for pair in (people, people[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused == ["last_administrator"]
    assert User.objects.filter(groups__name="admin").count() == 1


def test_roles_are_given_in_the_admin_by_who_may() -> None:
    boss, user = person("boss@example.org", Role.ADMIN), person("ann@example.org")
    body = {"action": "give_role", "role": "treasurer", "_selected_action": [str(user.pk)]}

    assert signed_in(boss).post("/admin/accounts/user/", body).status_code == 302

    assert roles_of(user) == ["treasurer"]
    record = AuditRecord.objects.get(action="role.granted", target_id=str(user.pk))
    assert (record.actor_id, record.via, record.address) == (boss.pk, "admin", "127.0.0.1")


def test_a_form_gives_no_rights() -> None:
    boss, user = person("boss@example.org", Role.ADMIN), person("ann@example.org")
    groups = [str(pk) for pk in Group.objects.values_list("pk", flat=True)]
    body = {
        "email": "ann@example.org", "fee_tier": "standard", "is_active": "on", "is_staff": "on",
        "is_superuser": "on", "groups": groups, "user_permissions": ["1"],
    }  # fmt: skip

    assert signed_in(boss).post(f"/admin/accounts/user/{user.pk}/change/", body).status_code == 302

    user.refresh_from_db()
    assert (user.is_staff, user.is_superuser, user.groups.count(), user.user_permissions.count()) == (
        False, False, 0, 0,
    )  # fmt: skip


def test_who_may_everything_is_changed_by_their_like_only() -> None:
    boss = person("boss@example.org", Role.ADMIN)
    root = User.objects.create_superuser("root@example.org", "correct horse battery")

    client = signed_in(boss)
    assert (
        client.post(f"/admin/accounts/user/{root.pk}/change/", {"email": "x@example.org"}).status_code == 403
    )
    assert client.post(f"/admin/accounts/user/{root.pk}/password/", {}).status_code == 403


def test_the_command_gives_takes_and_lists() -> None:
    user_create(email="ann@example.org")
    out = StringIO()
    for action in ("grant", "grant", "revoke", "revoke"):
        call_command("roles", action, "--email", "Ann@example.org", "--role", "support", stdout=out)
    call_command("roles", "grant", "--email", "ann@example.org", "--role", "operator", stdout=out)
    call_command("roles", "list", stdout=out)

    assert out.getvalue().splitlines() == [
        "ann@example.org has the role support.",
        "ann@example.org had the role support.",
        "ann@example.org no longer has the role support.",
        "ann@example.org never had the role support.",
        "ann@example.org has the role operator.",
        "support: nobody",
        "operator: ann@example.org",
        "treasurer: nobody",
        "admin: nobody",
    ]
    with pytest.raises(CommandError, match="No user with email"):
        call_command("roles", "grant", "--email", "nobody@example.org", "--role", "support")


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_change_nothing(method: str) -> None:
    boss, user = person("boss@example.org", Role.ADMIN), person("ann@example.org")
    before = AuditRecord.objects.count()

    for page in ("", f"{user.pk}/change/", f"{user.pk}/delete/"):
        getattr(signed_in(boss), method)(f"/admin/accounts/user/{page}", {"email": "x@example.org"})

    assert User.objects.filter(email="ann@example.org").exists()
    # Only that somebody signed in.
    assert AuditRecord.objects.count() == before
