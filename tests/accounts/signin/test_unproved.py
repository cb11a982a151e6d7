"""Who signed up and never proved the email is forgotten after a week; nobody else is."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.db import connection

from apps.accounts.audit.models import AuditRecord
from apps.accounts.models import User
from apps.accounts.services import api_key_create, user_create
from apps.accounts.signin.services import signin_purge
from apps.accounts.signin.unproved import unproved_purge
from apps.core import work
from apps.launch.domain import State
from apps.launch.invitations import batch_create
from apps.launch.kinds import INVITE
from apps.launch.models import Invitation
from apps.mail.models import Message
from tests.accounts.signin.support import EMAIL, OTHER, PASSWORD, Person, code_sent, incomplete
from tests.launch.support import go, secret_of

pytestmark = pytest.mark.django_db
WEEK = int(timedelta(days=7).total_seconds())
BODY = {"email": EMAIL, "password": PASSWORD}


def emails() -> list[str]:
    return sorted(User.objects.values_list("email", flat=True))


def test_who_never_proved_the_email_is_gone_after_a_week_and_signs_up_anew(
    later: Callable[[float], None],
) -> None:
    Person().post("sign-up", BODY)
    Person("203.0.113.1").sign_up("bob@example.org")
    user_id = User.objects.get(email=EMAIL).pk
    later(WEEK - 60)
    assert unproved_purge() == 0
    later(120)

    assert signin_purge() >= 1

    assert emails() == ["bob@example.org"]
    assert list(EmailAddress.objects.values_list("email", flat=True)) == ["bob@example.org"]
    record = AuditRecord.objects.get(action="person.deleted")
    assert (record.target_id, record.actor_id, EMAIL in str(record.before)) == (str(user_id), None, False)
    assert unproved_purge() == 0
    # As somebody new, with another password.
    again = Person("203.0.113.2")
    incomplete(again.post("sign-up", {"email": EMAIL, "password": OTHER}), "verify_email")
    assert again.post("verify", {"code": code_sent()}).status_code == 200
    assert User.objects.get(email=EMAIL).pk != user_id


def test_nobody_who_was_ever_let_in_or_was_made_by_somebody_else_goes(later: Callable[[float], None]) -> None:
    # given people whose email is not proved, each for another reason
    Person().sign_up()
    changing = User.objects.get()
    EmailAddress.objects.create(user=changing, email="new@example.org", verified=False)
    for email in ("made@example.org", "key@example.org"):
        user = user_create(email=email, password=PASSWORD)
        incomplete(Person(f"203.0.113.{len(email)}").sign_in(email), "verify_email")
        assert EmailAddress.objects.filter(user=user, verified=False).exists()
    Person("203.0.113.8").post("sign-up", {"email": "program@example.org", "password": PASSWORD})
    program = User.objects.get(email="program@example.org")
    api_key_create(user_id=program.pk, name="n", scopes=["plans:read"])
    Person("203.0.113.9").post("sign-up", {"email": "staff@example.org", "password": PASSWORD})
    User.objects.filter(email="staff@example.org").update(is_staff=True)
    before = emails()
    later(WEEK + 60)

    assert unproved_purge() == 0

    assert emails() == before


def test_an_invitation_is_good_again_when_its_account_is_gone(later: Callable[[float], None]) -> None:
    go(State.PRE_LAUNCH)
    batch_create(name="first", actor="op", emails=[EMAIL], valid_days=14)
    work.drain(INVITE, budget_seconds=0)
    token = secret_of(Message.objects.get(to=EMAIL, template="invitation"))
    Person().post("sign-up", {**BODY, "invitation": token})
    assert Invitation.objects.get().state == "accepted"
    later(WEEK + 60)

    assert unproved_purge() == 1

    row = Invitation.objects.get()
    assert (row.state, row.user_id, row.accepted_at) == ("sent", None, None)
    person = Person("203.0.113.3")
    incomplete(person.post("sign-up", {**BODY, "invitation": token}), "verify_email")
    assert Invitation.objects.get().state == "accepted"


def test_a_newer_invitation_stays_the_only_one(later: Callable[[float], None]) -> None:
    go(State.PRE_LAUNCH)
    batch_create(name="first", actor="op", emails=[EMAIL], valid_days=14)
    work.drain(INVITE, budget_seconds=0)
    token = secret_of(Message.objects.get(to=EMAIL, template="invitation"))
    Person().post("sign-up", {**BODY, "invitation": token})
    batch_create(name="second", actor="op", emails=[EMAIL], valid_days=14)
    later(WEEK + 60)

    assert unproved_purge() == 1

    states = Invitation.objects.order_by("created_at", "id").values_list("state", "user_id")
    assert [f"{state} {user}" for state, user in states] == ["revoked None", "queued None"]


@pytest.mark.django_db(transaction=True)
def test_what_somebody_holds_is_left_and_a_run_is_bounded(later: Callable[[float], None]) -> None:
    other = connection.copy()
    # Connecting ends the journey of `later`.
    other.connect()
    for number in range(3):
        Person(f"203.0.113.{number}").post(
            "sign-up", {"email": f"p{number}@example.org", "password": PASSWORD}
        )
    later(WEEK + 60)
    try:
        # Somebody proves the email just now.
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("UPDATE account_emailaddress SET verified = true WHERE email = 'p0@example.org'")
        assert [unproved_purge(limit=1) for _ in range(3)] == [1, 1, 0]
        other.commit()
    finally:
        other.close()
    assert unproved_purge() == 0
    assert emails() == ["p0@example.org"]


def test_the_people_are_found_on_an_index() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'account_emailaddress_unproved'")
        assert cursor.fetchone()[0].endswith("USING btree (user_id) WHERE (NOT verified)")
