"""Changing one's email: a code to the new one, word to the old one."""

from collections.abc import Callable

import pytest
from allauth.account.models import EmailAddress

from apps.accounts.models import User
from apps.accounts.services import user_create
from apps.events.models import Event
from tests.accounts.signin.support import EMAIL, PASSWORD, Person, code_sent, mails
from tests.accounts.tokens.support import sign_in_for_good
from tests.core.api.support import ApiClient, problem

pytestmark = pytest.mark.django_db
NEW = "ann@example.net"


def test_the_email_changes_when_the_new_one_is_proved() -> None:
    person = Person().sign_up()
    answer = person.post("email", {"email": NEW})
    assert (answer.status_code, answer.json()) == (202, {"email": EMAIL, "pending": NEW})
    assert User.objects.get().email == EMAIL
    problem(person.post("email/resend"), 429, "throttled", retryable=True)
    problem(person.post("email/confirm", {"code": "0"}), 400, "wrong_code")
    assert person.get("email").json() == {"email": EMAIL, "pending": NEW}

    answer = person.post("email/confirm", {"code": code_sent(to=NEW)})

    assert (answer.status_code, answer.json()) == (200, {"email": NEW, "pending": None})
    assert person.get("email").json() == {"email": NEW, "pending": None}
    assert User.objects.get().email == NEW
    assert [(row.email, row.verified, row.primary) for row in EmailAddress.objects.all()] == [
        (NEW, True, True)
    ]
    name, context = mails(EMAIL)[-1]
    assert (name, context["from_email"], context["to_email"]) == ("email_changed", EMAIL, NEW)
    assert Event.objects.filter(topic="person.email_changed").count() == 1
    problem(Person().sign_in(), 400, "wrong_credentials")
    assert Person().sign_in(NEW).status_code == 200


def test_it_wants_a_fresh_proof(later: Callable[[float], None]) -> None:
    person = Person().sign_up()
    later(301)
    problem(person.post("email", {"email": NEW}), 401, "reauthentication_required")
    assert mails(NEW) == []


def test_an_email_of_somebody_else_is_not_told_apart() -> None:
    person = Person().sign_up()
    Person().sign_up("bob@example.org")
    answer = person.post("email", {"email": "bob@example.org"})
    # Only whoever reads that mailbox learns that it has an account.
    assert answer.status_code in (202, 429)
    if answer.status_code == 202:
        assert answer.json() == {"email": EMAIL, "pending": "bob@example.org"}


def test_proving_an_email_of_somebody_else_changes_nothing(later: Callable[[float], None]) -> None:
    person = Person().sign_up()
    Person().sign_up("bob@example.org")
    later(31)
    assert person.post("email", {"email": "bob@example.org"}).status_code == 202

    answer = person.post("email/confirm", {"code": code_sent(to="bob@example.org")})

    problem(answer, 409, "email_taken")
    assert sorted(User.objects.values_list("email", flat=True)) == [EMAIL, "bob@example.org"]


def test_an_email_that_a_stranger_signed_up_with_and_never_proved_is_refused_whole(
    later: Callable[[float], None],
) -> None:
    person = Person().sign_up()
    Person().post("sign-up", {"email": NEW, "password": PASSWORD})
    later(31)
    assert person.post("email", {"email": NEW}).status_code == 202
    problem(person.post("email/confirm", {"code": code_sent(to=NEW)}), 409, "email_taken")
    assert person.get("email").json()["email"] == EMAIL
    assert person.get("factors").status_code == 200


def test_ones_own_email_is_no_change() -> None:
    person = Person().sign_up()
    answer = person.post("email", {"email": EMAIL})
    problem(answer, 400, "validation_failed", errors=[("/email", "duplicate_email")])


def test_who_was_made_by_an_operator_has_an_email_too() -> None:
    client = ApiClient(sign_in_for_good(user_create(email=EMAIL)).access_token)
    assert client.get("/api/v1/auth/email").json() == {"email": EMAIL, "pending": None}
