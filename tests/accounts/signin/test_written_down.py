"""What people do to their own accounts is in the audit log, from where, before and after, and is told them by mail."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from apps.accounts.audit.models import AuditRecord
from apps.accounts.models import Session, User
from apps.accounts.roles import Role, role_grant
from apps.events.models import Event
from tests.accounts.roles.test_roles import signed_in
from tests.accounts.signin.authenticator import Authenticator
from tests.accounts.signin.support import EMAIL, OTHER, PASSWORD, Person, code_sent, incomplete, mails

pytestmark = pytest.mark.django_db
NEW = "ann@example.net"


def told(action: str = "") -> list[tuple[str, Any, Any]]:
    """Action, before and after of what a person did to themself, the oldest first."""
    rows = AuditRecord.objects.filter(action__startswith="person.").order_by("occurred_at", "id")
    assert {row.address for row in rows} <= {"198.51.100.7", "127.0.0.1"}
    return [(row.action, row.before, row.after) for row in rows if not action or row.action == action]


def test_signing_up_the_email_and_the_password_are_written_down() -> None:
    person = Person().sign_up()
    assert person.post("password", {"current_password": PASSWORD, "new_password": OTHER}).status_code == 204
    assert person.post("email", {"email": NEW}).status_code == 202
    assert person.post("email/confirm", {"code": code_sent(to=NEW)}).status_code == 200

    assert told() == [
        ("person.signed_up", None, {"email": "a…@example.org", "by": "password"}),
        ("person.email_verified", None, {"email": "a…@example.org"}),
        ("person.password_changed", {"has_password": True}, {"has_password": True}),
        ("person.email_verified", None, {"email": "a…@example.net"}),
        ("person.email_changed", {"email": "a…@example.org"}, {"email": "a…@example.net"}),
    ]
    row = AuditRecord.objects.get(action="person.password_changed")
    session = Session.objects.get(revoked_at__isnull=True)
    assert (row.actor_id, row.target_id, row.via) == (
        session.user_id,
        str(session.user_id),
        f"session:{session.pk}",
    )
    assert row.request_id
    assert [name for name, _ in mails()] == ["code", "welcome", "password_changed", "email_changed"]


def test_a_password_that_was_forgotten_is_written_down() -> None:
    Person().sign_up()
    person = Person()
    incomplete(person.post("password/forgot", {"email": EMAIL}), "password_reset_by_code")
    body = {"code": code_sent("password_reset_code"), "password": OTHER}
    assert person.post("password/reset", body).status_code == 204

    assert told("person.password_reset") == [("person.password_reset", None, {"has_password": True})]
    assert mails()[-1][0] == "password_reset"


def test_every_change_of_factors_is_written_down_without_a_secret(later: Callable[[float], None]) -> None:
    person, phone = Person().sign_up(), Authenticator()
    codes = person.totp_add()
    assert person.post("step-up", {"code": person.totp()}).status_code == 204
    options = person.post("passkeys/options", {}).json()["options"]
    made = person.post("passkeys", {"name": "Phone", "credential": phone.create(options)}).json()
    other = Person()
    incomplete(other.sign_in(), "mfa_authenticate")
    assert other.post("sign-in/factor", {"code": codes[0]}).status_code == 200
    assert person.send("PATCH", f"passkeys/{made['id']}", {"name": "Old phone"}).status_code == 200
    later(31)
    assert person.post("step-up", {"code": person.totp()}).status_code == 204
    newer = person.post("factors/recovery-codes").json()["recovery_codes"]
    assert person.delete(f"passkeys/{made['id']}").status_code == 204
    assert person.delete("factors/totp").status_code == 204

    def named(values: Any) -> Any:
        return values and {name: one for name, one in values.items() if name != "added_at"}

    assert [(action, named(before), named(after)) for action, before, after in told()][2:] == [
        ("person.recovery_codes_made", None, {"codes_left": 10}),
        ("person.factor_added", None, {"factor": "totp"}),
        ("person.factor_added", None, {"factor": "passkey", "name": "Phone"}),
        ("person.recovery_code_used", {"codes_left": 10}, {"codes_left": 9}),
        (
            "person.passkey_renamed",
            {"factor": "passkey", "name": "Phone"},
            {"factor": "passkey", "name": "Old phone"},
        ),
        ("person.recovery_codes_made", {"codes_left": 9}, {"codes_left": 10}),
        ("person.factor_removed", {"factor": "passkey", "name": "Old phone"}, None),
        ("person.factor_removed", {"factor": "totp"}, None),
    ]
    assert [name for name, _ in mails()][2:] == [
        "factor_added", "factor_added", "recovery_code_used", "recovery_codes_made", "factor_removed",
        "factor_removed",
    ]  # fmt: skip
    assert [event.payload for event in Event.objects.filter(topic="person.recovery_code_used")] == [
        {"codes_left": 9}
    ]
    assert mails()[4][1]["codes_left"] == 9
    written = json.dumps(list(AuditRecord.objects.values("before", "after")))
    assert not [one for one in (*codes, *newer, person.secret, PASSWORD, EMAIL) if one in written]


def test_staff_who_change_their_own_password_are_told_and_so_is_the_log() -> None:
    Person().sign_up()
    boss = User.objects.get()
    role_grant(user_id=boss.pk, role=Role.ADMIN, actor="test")
    client = signed_in(User.objects.get())
    body = {"old_password": PASSWORD, "new_password1": OTHER, "new_password2": OTHER}

    assert client.post("/admin/password_change/", {**body, "old_password": "wrong"}).status_code == 200
    assert told("person.password_changed") == []
    assert client.post("/admin/password_change/", body).status_code == 302

    assert told("person.password_changed") == [
        ("person.password_changed", {"has_password": True}, {"has_password": True})
    ]
    assert AuditRecord.objects.get(action="person.password_changed").via == "admin"
    assert mails()[-1][0] == "password_changed"
    # Whoever had the old one is out of the API.
    assert not Session.objects.filter(revoked_at__isnull=True).exists()
    assert client.get("/admin/").status_code == 200


def test_somebody_whose_password_staff_changed_is_told() -> None:
    person = Person().sign_up()
    ann = User.objects.get()
    boss = User.objects.create_superuser("root@example.org", "correct horse battery")
    body = {"usable_password": "true", "password1": OTHER, "password2": OTHER}

    assert signed_in(boss).post(f"/admin/accounts/user/{ann.pk}/password/", body).status_code == 302

    assert Event.objects.filter(topic="person.password_changed", subject_id=ann.pk).count() == 1
    name, context = mails()[-1]
    assert (name, context["device"]) == ("password_changed", "An operator of the platform")
    assert person.get("factors").status_code == 401
    assert signed_in(boss).post("/admin/accounts/user/nothing/password/", body).status_code == 404
    record = AuditRecord.objects.get(action="admin.accounts.user.change")
    assert (record.actor_id, record.target_id) == (boss.pk, str(ann.pk))
    assert OTHER not in json.dumps([record.before, record.after])
