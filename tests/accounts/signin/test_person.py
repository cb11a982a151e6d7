"""What sign-in tells about a person elsewhere, what it welcomes them with, and what goes with their account."""

import json
from collections.abc import Callable

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator as Row
from allauth.socialaccount.models import SocialAccount

from apps.accounts import personal
from apps.accounts.models import Session, User
from apps.accounts.tokens.models import EndReason
from apps.events.models import Event
from tests.accounts.signin.authenticator import Authenticator
from tests.accounts.signin.provider import Provider
from tests.accounts.signin.support import EMAIL, OTHER, PASSWORD, Person, code_sent, incomplete, mails
from tests.accounts.signin.test_google import google, shown  # noqa: F401 — a fixture
from tests.accounts.signin.test_passkeys import added
from tests.core.api.support import ApiClient, problem, user_with_key

pytestmark = pytest.mark.django_db
ME, CLOSE = "/api/v1/me", "/api/v1/me/close"


def me(person: Person) -> tuple[bool, list[str]]:
    document = ApiClient(person.access).get(ME).json()
    return document["email_verified"], document["factors"]


def close(person: Person) -> None:
    answer = ApiClient(person.access).post(CLOSE, {"email": EMAIL})
    assert answer.status_code == 204, answer.content


def templates() -> list[str]:
    return [name for name, _ in mails()]


def test_me_says_the_factors_and_that_the_email_is_proved() -> None:
    person = Person().sign_up()
    assert me(person) == (True, [])
    person.totp_add()
    assert me(person) == (True, ["totp", "recovery_codes"])
    assert person.post("step-up", {"code": person.totp()}).status_code < 300
    added(person, Authenticator())
    assert me(person) == (True, ["totp", "passkey", "recovery_codes"])


def test_me_says_no_of_an_email_that_nobody_proved() -> None:
    user, client = user_with_key("bob@example.org")
    EmailAddress.objects.create(user=user, email="bob@example.net", verified=True)
    EmailAddress.objects.create(user=user, email=user.email, verified=False, primary=True)
    document = client.get(ME).json()
    assert (document["email_verified"], document["factors"]) == (False, [])


def test_after_closing_nothing_is_kept_and_the_email_signs_up_again(
    google: Provider,  # noqa: F811
    later: Callable[[float], None],
) -> None:
    person = Person().sign_up()
    elsewhere = Person("198.51.100.8")
    assert elsewhere.sign_in().status_code == 200
    assert shown(person, google.id_token(), "connections/google").status_code < 300
    assert SocialAccount.objects.exists()
    person.totp_add()
    assert person.post("step-up", {"code": person.totp()}).status_code < 300
    first = User.objects.get(email=EMAIL)
    before = Event.objects.filter(topic="session.revoked").count()

    close(person)

    for device in (person, elsewhere):
        assert ApiClient(device.access).get(ME).status_code == 401
    for model in (EmailAddress, SocialAccount, Row):
        assert not model.objects.filter(user=first).exists(), model
    ended = Session.objects.filter(user=first).values_list("reason", flat=True)
    assert EndReason.ACCOUNT_CLOSED in ended
    assert all(ended)
    assert Event.objects.filter(topic="session.revoked").count() > before
    problem(Person().sign_in(), 400, "wrong_credentials")

    later(3_700)
    again = Person().sign_up(password=OTHER)
    assert User.objects.get(email=EMAIL).pk != first.pk
    assert me(again) == (True, [])
    later(31)
    # The Google account leads to nobody: not to the one who is gone, nor to the new one who has its email.
    incomplete(shown(Person(), google.id_token()), "verify_email")


def test_the_export_has_sessions_and_ways_to_sign_in_and_no_secret(google: Provider) -> None:  # noqa: F811
    person = Person().sign_up()
    shown(person, google.id_token(), "connections/google")
    codes = person.totp_add()
    user = User.objects.get(email=EMAIL)

    sessions = list(personal._sessions(user.pk))
    ways = list(personal._sign_in(user.pk))

    assert [row["factors"] for row in sessions] == [list(one.factors) for one in Session.objects.all()]
    assert [row["method"] for row in ways] == ["email", "password", "provider", "totp", "recovery_codes"]
    assert ways[0] == {"method": "email", "email": EMAIL, "verified": True, "primary": True}
    text = json.dumps([*sessions, *ways], default=str)
    hidden = [person.secret, person.access, user.password, *codes]
    hidden += [
        str(row.data[name]) for row in Row.objects.all() for name in ("secret", "seed") if name in row.data
    ]
    assert len(hidden) >= 5
    assert not [one for one in hidden if one in text]


def test_everybody_is_welcomed_once_when_the_email_is_proved(later: Callable[[float], None]) -> None:
    person = Person()
    person.post("sign-up", {"email": EMAIL, "password": PASSWORD})
    assert templates() == ["code"]
    assert person.post("verify", {"code": code_sent()}).status_code == 200
    assert templates() == ["code", "welcome"]

    later(31)
    person.post("email", {"email": "ann@example.net"})
    assert person.post("email/confirm", {"code": code_sent(to="ann@example.net")}).status_code == 200
    assert [name for name, _ in mails("ann@example.net")] == ["code"]
    assert templates().count("welcome") == 1


def test_whom_google_vouches_for_is_welcomed_once(google: Provider) -> None:  # noqa: F811
    for _ in range(2):
        assert shown(Person(), google.id_token()).status_code == 200
    assert templates() == ["welcome"]


def test_whom_google_does_not_vouch_for_is_welcomed_after_the_code(google: Provider) -> None:  # noqa: F811
    person = Person()
    shown(person, google.id_token(email_verified=False))
    assert templates() == ["code"]
    assert person.post("verify", {"code": code_sent()}).status_code == 200
    assert templates() == ["code", "welcome"]


def test_a_new_device_is_mailed_once() -> None:
    Person().sign_up()
    other = Person("198.51.100.8")
    other.client.client.defaults["HTTP_USER_AGENT"] = "curl/8.9"
    assert other.sign_in().status_code == 200
    assert templates() == ["code", "welcome", "new_device"]
