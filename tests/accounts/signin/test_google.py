"""Signing in with Google, against a provider of our own over HTTP."""

from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from allauth.socialaccount.models import SocialAccount
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.cache import cache
from django.test import override_settings

from apps.accounts import signup_gate
from apps.accounts.models import User
from tests.accounts.signin.provider import (
    CLIENT_ID,
    Provider,
    nonce_asked,
    proof_kept,
    provider_running,
)
from tests.accounts.signin.support import EMAIL, OTHER, PASSWORD, Person, code_sent, incomplete, mails
from tests.accounts.signin.test_sign_up import Closed
from tests.core.api.support import problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def google() -> Iterator[Provider]:
    with provider_running() as provider, override_settings(SOCIALACCOUNT_PROVIDERS=provider.settings):
        yield provider


def shown(person: Person, token: str, path: str = "sign-in/google", **more: str) -> Any:
    return person.post(path, {"id_token": token, "proof": proof_kept(token), **more})


def test_without_a_client_id_there_is_none() -> None:
    problem(Person().get("sign-in/google"), 404, "not_found")
    problem(shown(Person(), "x.y.z"), 404, "not_found")


def test_the_first_time_makes_an_account_and_the_second_finds_it(google: Provider) -> None:
    begun = Person().get("sign-in/google")
    assert begun["Cache-Control"] == "no-store"
    assert {name: begun.json()[name] for name in ("client_id", "issuer")} == {
        "client_id": CLIENT_ID, "issuer": google.url,
    }  # fmt: skip
    answer = shown(Person(), google.id_token(email="Ann@Example.org"))
    assert answer.status_code == 200, answer.content
    user = User.objects.get()
    assert answer.json()["user"] == {"id": str(user.pk), "email": EMAIL}
    assert not user.has_usable_password()
    assert google.asked == ["/.well-known/openid-configuration", "/keys"]
    assert [name for name, _ in mails()] == ["welcome"]

    person = Person()
    assert shown(person, google.id_token(email="moved@example.org")).status_code == 200

    assert User.objects.count() == 1
    assert person.get("connections").json() == {
        "data": [{"provider": "google", "email": "moved@example.org"}]
    }


def test_an_email_that_the_provider_has_not_proved_is_proved_here(google: Provider) -> None:
    person = Person()
    incomplete(shown(person, google.id_token(email_verified=False)), "verify_email")
    assert person.post("verify", {"code": code_sent()}).status_code == 200


def test_an_account_with_that_email_is_not_handed_over(
    google: Provider, later: Callable[[float], None]
) -> None:
    Person().sign_up()
    later(31)
    person = Person()
    incomplete(shown(person, google.id_token()), "verify_email")
    assert person.get("factors").status_code == 401
    assert SocialAccount.objects.count() == 0
    assert mails()[-1][0] == "account_exists"


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "somebody-else"},
        {"iss": "https://accounts.example"},
        {"exp": 1_000_000_000},
        {"aud": None},
        {"exp": None, "iss": None},
        {"exp": None},
        {"iat": None},
        {"aud": [CLIENT_ID, "somebody-else"]},
        {"nonce": None},
        {"nonce": ""},
        {"nonce": "of somebody else"},
        {"nonce": 7},
        # Text is true, whatever it says.
        {"email_verified": "false"},
        {"header": {"kid": "key-2"}},
        {"header": {"kid": ""}},
    ],
)
def test_a_token_that_is_not_for_us_is_refused(google: Provider, change: dict[str, Any]) -> None:
    kwargs, proof = dict(change), proof_kept(google.id_token())
    token = google.id_token(**kwargs)
    # All else is as it should be.
    proof = proof_kept(token) if "nonce" not in change else proof
    problem(shown(Person(), token, proof=proof), 400, "token_refused")
    assert User.objects.count() == 0


def test_a_forged_token_is_refused(google: Provider) -> None:
    stranger = rsa.generate_private_key(65_537, 2_048)
    public = google.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(google.id_token(), options={"verify_signature": False})
    forged = [
        google.id_token(key=stranger),
        jwt.encode(claims, None, algorithm="none", headers={"kid": "key-1"}),  # type: ignore[arg-type]
        # The public key as the secret of an HMAC: PyJWT will not sign so, an attacker will.
        jwt.encode(claims, public[27:200], algorithm="HS256", headers={"kid": "key-1"}),
        google.id_token()[:-6] + "AAAAAA",
        "no token at all",
        "a.b.c",
    ]
    for token in forged:
        problem(shown(Person(), token), 400, "token_refused")
    assert User.objects.count() == 0


def test_a_token_signs_in_once(google: Provider) -> None:
    token = google.id_token()
    assert shown(Person(), token).status_code == 200
    cache.clear()
    problem(shown(Person(), token), 400, "token_refused")


def test_a_token_that_somebody_else_saw_is_worth_nothing_to_them(google: Provider) -> None:
    # Ann's token, whose nonce can be read in it; the thief has begun a sign-in too.
    token = google.id_token()
    nonce = jwt.decode(token, options={"verify_signature": False})["nonce"]
    others = [proof_kept(google.id_token()), nonce, proof_kept(token)[:-1], proof_kept(token) + "x", "x"]
    for proof in others:
        problem(shown(Person(), token, proof=proof), 400, "token_refused")
    problem(Person().post("sign-in/google", {"id_token": token}), 400, "validation_failed")
    assert User.objects.count() == 0
    # None of that used it up.
    assert shown(Person(), token).status_code == 200


def test_a_nonce_is_for_one_token_and_for_an_hour(google: Provider, later: Callable[[float], None]) -> None:
    first = google.id_token()
    nonce = jwt.decode(first, options={"verify_signature": False})["nonce"]
    assert shown(Person(), first).status_code == 200
    problem(shown(Person(), google.id_token(nonce=nonce)), 400, "token_refused")
    old = nonce_asked()
    later(3_601)
    problem(shown(Person(), google.id_token(nonce=old)), 400, "token_refused")
    assert shown(Person(), google.id_token()).status_code == 200


def test_a_provider_that_is_away_is_said_to_be(google: Provider) -> None:
    google.away = True
    problem(shown(Person(), google.id_token()), 503, "unavailable", retryable=True)
    google.away = False
    assert shown(Person(), google.id_token()).status_code == 200


def test_the_gate_is_asked_about_new_people_only(google: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(Person(), google.id_token()).status_code == 200
    monkeypatch.setattr(signup_gate, "_current", Closed())
    assert shown(Person(), google.id_token()).status_code == 200
    token = google.id_token(sub="2", email="bob@example.org")
    problem(shown(Person(), token), 403, "invitation_required")
    # What was refused is not used up.
    answer = shown(Person(), token, invitation="golden")
    assert answer.status_code == 200, answer.content


def test_connecting_signing_in_and_disconnecting(google: Provider, later: Callable[[float], None]) -> None:
    person = Person().sign_up()
    later(301)
    problem(shown(person, google.id_token(), "connections/google"), 401, "reauthentication_required")
    assert person.post("step-up", {"password": PASSWORD}).status_code == 204
    assert shown(person, google.id_token(email="a@b.example"), "connections/google").status_code == 204
    assert mails()[-1][0] == "provider_connected"
    answer = shown(Person(), google.id_token())
    assert answer.json()["user"]["email"] == EMAIL
    bob = Person("203.0.113.4").sign_up("bob@example.org")
    problem(
        shown(bob, google.id_token(), "connections/google"),
        400,
        "validation_failed",
        errors=[("", "connected_other")],
    )

    assert person.delete("connections/google").status_code == 204

    assert mails()[-1][0] == "provider_removed"
    problem(person.delete("connections/google"), 404, "not_found")
    assert person.get("connections").json() == {"data": []}


def test_whoever_has_only_google_steps_up_by_it(google: Provider, later: Callable[[float], None]) -> None:
    person = Person()
    shown(person, google.id_token())
    problem(person.delete("connections/google"), 400, "validation_failed", errors=[("", "no_password")])
    later(301)
    document = problem(person.post("password", {"new_password": OTHER}), 401, "reauthentication_required")
    assert document["flows"] == [{"id": "provider_reauthenticate", "providers": ["google"]}]
    problem(shown(person, google.id_token(sub="2"), "step-up/google"), 400, "token_refused")
    assert shown(person, google.id_token(), "step-up/google").status_code == 204
    assert person.post("password", {"new_password": OTHER}).status_code == 204
    assert Person().sign_in(password=OTHER).status_code == 200


def test_a_second_factor_is_asked_after_google_too(google: Provider, later: Callable[[float], None]) -> None:
    person = Person()
    shown(person, google.id_token())
    person.totp_add()
    problem(shown(person, google.id_token(), "step-up/google"), 403, "second_factor_required")
    other = Person()
    incomplete(shown(other, google.id_token()), "mfa_authenticate")
    other.secret = person.secret
    later(30)
    assert other.post("sign-in/factor", {"code": other.totp()}).status_code == 200
