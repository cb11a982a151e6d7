"""Locks of roles and of the admin's second factor: each race with the lock off, then with it on."""

import pytest
from django.contrib.auth.models import Group

from apps.accounts.adminsite import signing_in
from apps.accounts.audit.models import AuditRecord
from apps.accounts.models import User
from apps.accounts.roles import Role, role_grant, role_revoke, roles_of, roles_sync
from apps.accounts.services import user_create
from apps.core.errors import Conflict
from tests.accounts.roles.factor import SECRET, Authenticators
from tests.accounts.roles.test_signing_in import CODE, ENROL, PASSWORD, password_shown
from tests.support.races import off_and_on, race

pytestmark = pytest.mark.django_db(transaction=True)
PEOPLE = r'FROM "accounts_user"'


@off_and_on
def test_roles_are_brought_up_to_date_once(locked: bool) -> None:
    roles_sync()
    Group.objects.get(name=Role.SUPPORT).permissions.clear()
    before = AuditRecord.objects.filter(action="role.synced").count()

    race(
        roles_sync,
        roles_sync,
        lock=r'FROM "auth_group" ',
        locked=locked,
        read=r'FROM "auth_group_permissions"',
    )

    assert AuditRecord.objects.filter(action="role.synced").count() - before == (1 if locked else 2)


@off_and_on
def test_two_administrators_do_not_take_each_others_last_role(locked: bool) -> None:
    ann, bob = (user_create(email=f"boss{number}@example.org") for number in range(2))
    for boss in (ann, bob):
        role_grant(user_id=boss.pk, role=Role.ADMIN, actor="test")

    _, answer = race(
        lambda: role_revoke(user_id=ann.pk, role=Role.ADMIN, actor=bob),
        lambda: role_revoke(user_id=bob.pk, role=Role.ADMIN, actor=ann),
        lock=r'FROM "auth_group"',
        locked=locked,
        read=r'LEFT OUTER JOIN "accounts_user_groups"',
    )

    assert isinstance(answer, Conflict) is locked
    assert User.objects.filter(groups__name=Role.ADMIN).count() == (1 if locked else 0)


@off_and_on
def test_who_is_given_one_role_while_another_is_taken_stays_staff(locked: bool) -> None:
    ann = user_create(email="ann@example.org")
    role_grant(user_id=ann.pk, role=Role.SUPPORT, actor="test")

    race(
        lambda: role_grant(user_id=ann.pk, role=Role.TREASURER, actor="test"),
        lambda: role_revoke(user_id=ann.pk, role=Role.SUPPORT, actor="test"),
        lock=PEOPLE,
        locked=locked,
        # The roles before: what `is_staff` is made of.
        read=r'SELECT "auth_group"."name"',
    )

    ann.refresh_from_db()
    assert (roles_of(ann), ann.is_staff) == (["treasurer"], locked)


@off_and_on
@pytest.mark.parametrize("page", [CODE, ENROL])
def test_wrong_codes_at_the_admin_are_counted_one_after_another(
    authenticators: Authenticators, monkeypatch: pytest.MonkeyPatch, page: str, locked: bool
) -> None:
    user = user_create(email="op@example.org", password=PASSWORD)
    role_grant(user_id=user.pk, role=Role.OPERATOR, actor="test")
    if page == CODE:
        authenticators.secrets[user.pk] = SECRET
    clients = [password_shown()[0] for _ in range(2)]
    asked: list[str] = []
    for name in ("verify", "confirm"):
        monkeypatch.setattr(authenticators, name, lambda **said: asked.append(said["code"]))
    monkeypatch.setattr(signing_in, "TRIES_MAX", 1)
    for client in clients:
        assert client.get(page).status_code == 200

    race(
        lambda: clients[0].post(page, {"code": "one"}),
        lambda: clients[1].post(page, {"code": "two"}),
        lock=PEOPLE,
        locked=locked,
        read=r'FROM "accounts_auditrecord"',
    )

    assert asked == (["one"] if locked else ["one", "two"])
