"""Access tokens: which are taken, which are refused, and what a session may do with them."""

import base64
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings

from apps.accounts.domain import Scope
from apps.accounts.models import Session
from apps.accounts.tokens.domain import ACCESS_LIFETIME, access_token_make, access_token_read
from apps.accounts.tokens.selectors import signing
from apps.core import clock
from tests.accounts.tokens.support import signed_in
from tests.core.api.support import ApiClient, problem

pytestmark = pytest.mark.django_db
ME = "/api/v1/me"
OLD, NEW = {"k1": b"1" * 32}, {"k2": b"2" * 32}


def test_access_token_opens_what_is_the_persons() -> None:
    user, pair, client = signed_in()
    response = client.get(ME)
    assert response.status_code == 200
    assert response.json()["id"] == str(user.pk)
    assert response.json()["scopes"] == sorted(Scope)
    assert jwt.get_unverified_header(pair.access_token) == {"alg": "HS256", "kid": "dev", "typ": "at+jwt"}
    claims = jwt.decode(pair.access_token, options={"verify_signature": False})
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("tranche", "tranche-api", str(user.pk))
    assert (claims["sid"], claims["amr"]) == (str(pair.session_id), ["password"])
    assert claims["exp"] - claims["iat"] == 900 == pair.expires_in


def test_authentication_is_one_query() -> None:
    _, pair, client = signed_in()
    with CaptureQueriesContext(connection) as queries:
        assert client.get(ME).status_code == 200
    assert len(queries) == 1 + 4, "the session with its user; then what me tells: email, factors, roles, keys"
    assert 'INNER JOIN "accounts_user"' in queries[0]["sql"]
    with CaptureQueriesContext(connection) as refused:
        ApiClient(pair.access_token[:-2]).get(ME)
    assert len(refused) == 0, "a signature that is wrong asks the database nothing"


def made(**changes: Any) -> str:
    """A token of Ann's whose claims or header were changed before it was signed, rightly, with our key."""
    _, pair, _ = signed_in()
    header: dict[str, Any] = {"kid": "dev", "typ": "at+jwt", **changes.pop("header", {})}
    claims = jwt.decode(pair.access_token, options={"verify_signature": False})
    claims = {name: value for name, value in {**claims, **changes}.items() if value is not ...}
    return jwt.encode(claims, settings.ACCESS_TOKEN_KEYS["dev"], algorithm="HS256", headers=header)


# The same in every process that collects the tests.
NOBODY = "018f0000-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"}, {"aud": "other"}, {"aud": ["other"]}, {"sid": NOBODY}, {"sub": NOBODY},
        {"sid": "x"}, {"sub": "x"}, {"exp": 1}, {"exp": None}, {"exp": True}, {"exp": "9999999999"},
        {"exp": 9999999999.5}, {"exp": ...}, {"iss": ...}, {"aud": ...}, {"sub": ...}, {"sid": ...}, {"iat": ...},
        {"header": {"kid": "other"}}, {"header": {"typ": "JWT"}}, {"header": {"typ": "rt+jwt"}},
    ],
    ids=str,
)  # fmt: skip
def test_token_that_we_would_not_make_is_refused(changes: dict[str, Any]) -> None:
    document = problem(ApiClient(made(**changes)).get(ME), 401, "invalid_access_token", errors=[])
    assert "sign in" in document["detail"]


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_token_that_we_did_not_sign_is_refused() -> None:
    _, pair, client = signed_in()
    _, payload, signature = pair.access_token.split(".")
    claims = jwt.decode(pair.access_token, options={"verify_signature": False})
    header = {"kid": "dev", "typ": "at+jwt"}
    key = settings.ACCESS_TOKEN_KEYS["dev"]
    bad = [
        f"{part({**header, 'alg': 'none'})}.{payload}.",
        f"{part({**header, 'alg': 'none'})}.{payload}.{signature}",
        f"{part({**header, 'alg': 'HS512'})}.{payload}.{signature}",
        jwt.encode(claims, key * 2, algorithm="HS512", headers=header),
        jwt.encode(claims, b"k" * 32, algorithm="HS256", headers=header),
        f"{part({**header, 'alg': 'HS256'})}.{part({**claims, 'sub': str(uuid4())})}.{signature}",
        pair.access_token + "x", "..", "a.b.c", f"{part([])}.{part([])}.x", f"{part(1)}.{payload}.{signature}",
        f"{part({**header, 'alg': 'HS256', 'kid': ['dev']})}.{payload}.{signature}",
        f"{'W10' * 900}.{payload}.{signature}", "\u00fc.\u00fc.\u00fc",
        f"{base64.urlsafe_b64encode(b'[' * 2000).decode()}.{payload}.{signature}",
    ]  # fmt: skip
    for text in bad:
        response = ApiClient().get(ME, authorization=f"Bearer {text}")
        problem(response, 401, "invalid_access_token", errors=[])
        assert response["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
    assert client.get(ME).status_code == 200


PUBLIC = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(("key", "read"), [(b"1" * 32, True), (PUBLIC, False)], ids=["secret", "public"])
def test_what_everybody_may_know_is_no_secret(key: bytes, read: bool) -> None:
    """A key that was configured wrongly verifies nothing, the second time neither."""
    _, pair, _ = signed_in()
    signed = f"{part({'alg': 'HS256', 'kid': 'a', 'typ': 'at+jwt'})}.{pair.access_token.split('.')[1]}"
    stamp = base64.urlsafe_b64encode(hmac.digest(key, signed.encode(), "sha256")).rstrip(b"=").decode()
    wrongly = replace(signing(), keys={"a": key})
    for _ in range(2):
        found = access_token_read(f"{signed}.{stamp}", signing=wrongly, now=clock.now())
        assert (found is not None) == read


def test_every_end_of_a_session_is_the_same_answer_at_once() -> None:
    user, pair, client = signed_in()
    session = Session.objects.filter(pk=pair.session_id)
    answers = []
    for change, back in (
        ({"revoked_at": clock.now(), "reason": "signed_out"}, {"revoked_at": None, "reason": ""}),
        ({"expires_at": clock.now()}, {"expires_at": clock.now() + timedelta(days=1)}),
        ({"password_stamp": "0" * 64}, {"password_stamp": session.get().password_stamp}),
    ):
        assert client.get(ME).status_code == 200
        if "expires_at" in change:
            session.update(created_at=clock.now() - timedelta(days=1))
        session.update(**change)
        answers.append(client.get(ME, x_request_id="same-request"))
        session.update(**back)
    user.is_active = False
    user.save()
    answers.append(client.get(ME, x_request_id="same-request"))
    for answer in answers:
        problem(answer, 401, "invalid_access_token")
    assert len({answer.content for answer in answers}) == 1


def test_new_password_ends_the_sessions_before_it_whoever_set_it() -> None:
    user, _, client = signed_in()
    user.set_password("a new password of mine")
    user.save()
    problem(client.get(ME), 401, "invalid_access_token")


def test_token_lives_for_fifteen_minutes() -> None:
    user, pair, _ = signed_in()
    now = clock.now()
    text = access_token_make(
        signing=signing(),
        user_id=user.pk,
        session_id=pair.session_id,
        factors=[],
        authenticated_at=now,
        now=now,
    )
    last = now.replace(microsecond=0) + ACCESS_LIFETIME - timedelta(microseconds=1)
    assert access_token_read(text, signing=signing(), now=last) is not None
    assert access_token_read(text, signing=signing(), now=last + timedelta(microseconds=1)) is None


def test_rotation_of_keys_refuses_nobody() -> None:
    with override_settings(ACCESS_TOKEN_KEYS=OLD):
        user, old, _ = signed_in()
    step_one, step_two = {**OLD, **NEW}, {**NEW, **OLD}
    with override_settings(ACCESS_TOKEN_KEYS=step_two):
        _, new, _ = signed_in(user.email)
    for keys in (step_one, step_two):
        with override_settings(ACCESS_TOKEN_KEYS=keys):
            assert ApiClient(old.access_token).get(ME).status_code == 200
            assert ApiClient(new.access_token).get(ME).status_code == 200
    with override_settings(ACCESS_TOKEN_KEYS=NEW):
        problem(ApiClient(old.access_token).get(ME), 401, "invalid_access_token")
        assert ApiClient(new.access_token).get(ME).status_code == 200


def test_last_use_is_noted_once_a_minute() -> None:
    _, pair, client = signed_in()
    session = Session.objects.filter(pk=pair.session_id)
    first = session.get().last_used_at
    client.get(ME)
    assert session.get().last_used_at == first
    session.update(last_used_at=first - timedelta(seconds=61))
    client.get(ME)
    assert session.get().last_used_at > first


def test_nothing_of_a_token_shows() -> None:
    _, pair, _ = signed_in()
    assert pair.access_token not in repr(pair)
    assert pair.refresh_token not in repr(pair)
    assert "key" not in repr(signing())
