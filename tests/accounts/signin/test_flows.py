"""Signing up and in, end to end over the API."""

import pytest

from apps.accounts.models import User
from tests.accounts.signin.support import (
    EMAIL,
    OTHER,
    PASSWORD,
    Person,
    code_sent,
    incomplete,
    mails,
)
from tests.core.api.support import problem

pytestmark = pytest.mark.django_db


def test_sign_up_verify_sign_in() -> None:
    person = Person()
    incomplete(person.post("sign-up", {"email": "Ann@Example.org", "password": PASSWORD}), "verify_email")
    answer = person.post("verify", {"code": code_sent()})
    assert answer.status_code == 200, answer.content
    user = User.objects.get()
    assert answer.json()["user"] == {"id": str(user.pk), "email": EMAIL}
    assert user.password.startswith("argon2$argon2id$")
    answer = Person().sign_in()
    assert answer.status_code == 200, answer.content


def test_totp_and_recovery() -> None:
    person = Person().sign_up()
    codes = person.totp_add()
    assert len(codes) == 10
    again = Person()
    incomplete(again.sign_in(), "mfa_authenticate")
    again.secret = person.secret
    answer = again.post("sign-in/factor", {"code": again.totp()})
    assert answer.status_code == 200, answer.content
    assert [name for name, _ in mails()] == ["code", "factor_added"]


def test_password_reset() -> None:
    Person().sign_up()
    other = Person()
    incomplete(other.post("password/forgot", {"email": EMAIL}), "password_reset_by_code")
    answer = other.post("password/reset", {"code": code_sent("password_reset_code"), "password": OTHER})
    assert answer.status_code == 204, answer.content
    problem(Person().sign_in(), 400, "wrong_credentials")
    assert Person().sign_in(password=OTHER).status_code == 200
