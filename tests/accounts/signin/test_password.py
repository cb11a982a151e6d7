"""A forgotten password, and a changed one."""

import re
from collections.abc import Callable

import pytest
from allauth.account.models import EmailAddress
from django.core.cache import cache

from apps.accounts.models import User
from apps.events.models import Event
from apps.launch.tokens import code_make, token_make
from apps.mail.catalogue import TEMPLATES
from tests.accounts.signin.support import EMAIL, OTHER, PASSWORD, Person, code_sent, incomplete, mails
from tests.core.api.support import problem

pytestmark = pytest.mark.django_db
RESET = "password_reset_code"


def forgotten(email: str = EMAIL) -> Person:
    person = Person("203.0.113.50")
    incomplete(person.post("password/forgot", {"email": email}), "password_reset_by_code")
    return person


def test_a_new_password_by_code() -> None:
    Person().sign_up()
    person = forgotten()
    code = code_sent(RESET)
    assert len(code.replace("-", "")) == 8

    answer = person.post("password/reset", {"code": code, "password": OTHER})

    assert (answer.status_code, answer.content) == (204, b"")
    problem(Person().sign_in(), 400, "wrong_credentials")
    assert Person().sign_in(password=OTHER).status_code == 200
    assert [name for name, _ in mails()] == ["code", "welcome", RESET, "password_reset"]
    assert set(mails()[-1][1]) == {"address", "device", "at"}
    assert Event.objects.filter(topic="person.password_reset", subject_id=User.objects.get().pk).count() == 1
    # It was good once.
    answer = person.post("password/reset", {"code": code, "password": PASSWORD})
    assert answer.status_code in (409, 410)
    assert Person().sign_in(password=OTHER).status_code == 200


def test_the_gallery_shows_codes_of_the_form_that_they_have() -> None:
    def form(code: str) -> str:
        return re.sub("[0-9]", "9", re.sub("[A-Z]", "A", code))

    Person().sign_up()
    forgotten()
    sent = {"code": code_sent(), RESET: code_sent(RESET), "waitlist_code": code_make()}
    shown = {name: TEMPLATES[name].sample["code"] for name in [*sent, "invitation"]}

    assert {name: form(shown[name]) for name in sent} == {name: form(code) for name, code in sent.items()}
    assert len(shown["invitation"]) == len(token_make())


def test_known_and_unknown_emails_are_one_answer_and_a_mail_each() -> None:
    Person().sign_up()
    said = []
    for email in (EMAIL, "nobody@example.org"):
        person = Person("203.0.113.50")
        document = incomplete(person.post("password/forgot", {"email": email}), "password_reset_by_code")
        assert document.pop("session_token")
        del document["request_id"]
        said.append(document)
        refused = problem(
            person.post("password/reset", {"code": "BBBB-BBBB", "password": OTHER}), 400, "wrong_code"
        )
        assert refused["errors"][0]["pointer"] == "/code"
    assert said[0] == said[1]
    assert [name for name, _ in mails("nobody@example.org")] == ["unknown_account"]
    assert "code" not in mails("nobody@example.org")[0][1]


def test_five_tries_and_the_code_is_worthless() -> None:
    Person().sign_up()
    person = forgotten()
    for _ in range(5):
        problem(person.post("password/reset", {"code": "BBBB-BBBB", "password": OTHER}), 400, "wrong_code")
    answer = person.post("password/reset", {"code": code_sent(RESET), "password": OTHER})
    assert answer.status_code in (409, 410)
    assert Person().sign_in().status_code == 200


def test_a_code_lasts_ten_minutes_and_comes_after_a_pause(later: Callable[[float], None]) -> None:
    Person().sign_up()
    person = forgotten()
    cache.clear()
    problem(Person().post("password/forgot", {"email": EMAIL}), 429, "throttled", retryable=True)
    later(601)
    problem(
        person.post("password/reset", {"code": code_sent(RESET), "password": OTHER}), 409, "flow_not_pending"
    )
    forgotten()
    assert [name for name, _ in mails()].count(RESET) == 2


def test_a_bad_new_password_is_refused_and_the_code_still_good() -> None:
    Person().sign_up()
    person = forgotten()
    answer = person.post("password/reset", {"code": code_sent(RESET), "password": "Sunshine2024!"})
    problem(answer, 400, "validation_failed", errors=[("/password", "password_breached")])
    answer = person.post("password/reset", {"code": code_sent(RESET), "password": OTHER})
    assert answer.status_code == 204


def test_whoever_owns_the_mailbox_gets_the_account_that_somebody_else_opened() -> None:
    """Signed up by a stranger, never proved: the owner sets a password, and the stranger's is worthless."""
    Person().post("sign-up", {"email": EMAIL, "password": PASSWORD})
    person = forgotten()
    assert person.post("password/reset", {"code": code_sent(RESET), "password": OTHER}).status_code == 204
    assert EmailAddress.objects.get().verified
    problem(Person().sign_in(), 400, "wrong_credentials")
    assert Person().sign_in(password=OTHER).status_code == 200


def test_a_reset_does_not_get_past_the_second_factor() -> None:
    owner = Person().sign_up()
    owner.totp_add()
    person = forgotten()
    person.post("password/reset", {"code": code_sent(RESET), "password": OTHER})
    again = Person()
    incomplete(again.sign_in(password=OTHER), "mfa_authenticate")
    assert again.get("factors").status_code == 401


def test_changing_the_password_wants_the_old_one_and_a_fresh_proof(later: Callable[[float], None]) -> None:
    person = Person().sign_up()
    body = {"current_password": PASSWORD, "new_password": OTHER}
    later(301)
    document = problem(person.post("password", body), 401, "reauthentication_required")
    assert document["flows"] == [{"id": "reauthenticate"}]
    problem(
        person.post("step-up", {"password": OTHER}),
        400,
        "validation_failed",
        errors=[("/password", "incorrect_password")],
    )
    assert person.post("step-up", {"password": PASSWORD}).status_code == 204
    problem(
        person.post("password", {**body, "current_password": OTHER}),
        400,
        "validation_failed",
        errors=[("/current_password", "enter_current_password")],
    )
    problem(
        person.post("password", {**body, "new_password": "qwertyuiop"}),
        400,
        "validation_failed",
        errors=[("/new_password", "password_breached")],
    )

    assert person.post("password", body).status_code == 204

    assert person.get("factors").status_code == 200
    problem(Person().sign_in(), 400, "wrong_credentials")
    assert Person().sign_in(password=OTHER).status_code == 200
    assert [name for name, _ in mails()] == ["code", "welcome", "password_changed"]
    assert Event.objects.filter(topic="person.password_changed").count() == 1


def test_step_up_takes_one_proof() -> None:
    person = Person().sign_up()
    for body in ({}, {"password": PASSWORD, "code": "123456"}):
        problem(person.post("step-up", body), 400, "validation_failed", errors=[("", "one_of")])
