"""Signing in by password: one answer for whatever is wrong, locks, and what a flow's token is good for."""

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from allauth.account.auth_backends import AuthenticationBackend
from django.conf import settings
from django.contrib.sessions.models import Session as DjangoSession
from django.db import connection
from django.test import Client, override_settings
from redis import Redis

from apps.accounts.models import Session, User
from tests.accounts.signin.support import AUTH, EMAIL, OTHER, PASSWORD, Person, incomplete
from tests.accounts.signin.test_sign_up import hashed
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.support.staff import browser

pytestmark = pytest.mark.django_db
__all__ = ["hashed"]
HASHED = import_module("apps.accounts.migrations.0041_session_keys").HASHED


def redis_flush() -> None:
    Redis.from_url(settings.REDIS_URL).flushdb()


def wrong(email: str, address: str = "198.51.100.7") -> dict[str, Any]:
    document = problem(Person(address).sign_in(email, OTHER), 400, "wrong_credentials", errors=[])
    del document["request_id"]
    return document


def test_an_unknown_email_and_a_wrong_password_are_one_answer_for_one_hash(hashed: Counter[str]) -> None:
    Person().sign_up()
    closed = User.objects.create_user("closed@example.org", PASSWORD, is_active=False)
    google = User.objects.create_user("google@example.org")
    said, work = [], []
    for email in (EMAIL, "nobody@example.org", closed.email, google.email):
        hashed.clear()
        said.append(wrong(email))
        work.append(dict(hashed))
    assert said[1:] == said[:1] * 3
    assert work == [{"hashes": 1}] * 4


def ratio_of_work(*, fewest: int, most: int) -> tuple[float, float]:
    """How many times the work of an unknown email a wrong password costs: the 95 % interval of the medians' ratio.

    The work is processor time (Argon2 has threads of its own): waiting on a busy machine is none. One after the other,
    each from an address of its own; the interval is of the ratios of 2,000 samples drawn again from what was measured.
    Neighbours on the processor make it wide; it is measured on until it is narrow.
    """

    def seconds(email: str, number: int) -> float:
        started = time.process_time()
        wrong(email, f"203.0.113.{number}")
        return time.process_time() - started

    seconds(EMAIL, 0)
    known, unknown = [], []
    dice = random.Random(1)
    low, high = 0.0, 0.0
    for number in range(1, most + 1):
        known.append(seconds(EMAIL, number))
        unknown.append(seconds("nobody@example.org", number))
        if number < fewest:
            continue
        ratios = sorted(
            statistics.median(dice.choices(known, k=number))
            / statistics.median(dice.choices(unknown, k=number))
            for _ in range(2_000)
        )
        low, high = ratios[50], ratios[-51]
        if high < 1.15 * low:
            break
    return low, high


@override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.Argon2PasswordHasher"])
def test_an_unknown_email_takes_as_long_as_a_wrong_password_and_the_measure_would_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Person().sign_up()
    # All in all fewer than the hundred tries that an email has in an hour.
    low, high = ratio_of_work(fewest=11, most=60)
    assert 0.75 < low < high < 1.33, (low, high)

    # Without the hash that an unknown email costs all the same, it is seen from far.
    monkeypatch.setattr(AuthenticationBackend, "_mitigate_timing_attack", lambda *_: None)
    low, high = ratio_of_work(fewest=5, most=20)
    assert low > 1.33, (low, high)


def test_five_wrong_passwords_lock_this_email_from_this_address_only(later: Callable[[float], None]) -> None:
    Person().sign_up()
    Person().sign_up("bob@example.org")
    for _ in range(4):
        wrong(EMAIL)
    locked = Person().sign_in(EMAIL, OTHER)
    problem(locked, 429, "sign_in_locked", retryable=True)
    assert locked["Retry-After"] == "900"
    later(600)
    waiting = Person().sign_in()
    problem(waiting, 429, "sign_in_locked", retryable=True)
    # What is left of it, or less by the seconds that this test took.
    assert 290 < int(waiting["Retry-After"]) <= 300

    redis_flush()

    problem(Person().sign_in(), 429, "sign_in_locked", retryable=True)
    assert Person("203.0.113.9").sign_in().status_code == 200
    assert Person().sign_in("bob@example.org").status_code == 200
    later(280)
    problem(Person().sign_in(), 429, "sign_in_locked", retryable=True)
    # Knocking has not lengthened it.
    later(30)
    assert Person().sign_in().status_code == 200


def test_an_email_that_nobody_has_is_locked_the_same() -> None:
    for _ in range(4):
        wrong("nobody@example.org")
    problem(Person().sign_in("nobody@example.org"), 429, "sign_in_locked", retryable=True)


def test_signing_in_forgets_the_wrong_tries() -> None:
    Person().sign_up()
    for _ in range(2):
        for _ in range(4):
            wrong(EMAIL)
        assert Person().sign_in().status_code == 200


def test_an_email_gets_a_hundred_tries_an_hour_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.accounts.signin import adapter

    monkeypatch.setitem(adapter._PASSWORD_RATE, "password", "3/h/key")
    Person().sign_up()
    for number in range(3):
        wrong(EMAIL, f"203.0.113.{number}")
    refused = Person("203.0.113.77").sign_in()
    problem(refused, 429, "throttled", retryable=True)
    assert 3_590 < int(refused["Retry-After"]) <= 3_600


def test_a_flow_is_told_and_can_be_left() -> None:
    person = Person()
    person.post("sign-up", {"email": EMAIL, "password": PASSWORD})
    assert person.get("flow").json() == {"flows": [{"id": "verify_email", "is_pending": True}]}
    assert Person().get("flow").json() == {"flows": []}

    assert person.delete("flow").status_code == 204

    problem(person.get("flow"), 410, "flow_expired")


def test_a_token_of_no_flow_is_told_apart() -> None:
    person = Person()
    person.flow = "x" * 32
    problem(person.post("verify", {"code": "123456"}), 410, "flow_expired")
    person.flow = ""
    problem(person.post("verify", {"code": "123456"}), 409, "flow_not_pending")
    problem(person.post("sign-in/factor", {"code": "123456"}), 401, "authentication_incomplete")


def test_the_token_of_a_flow_is_no_access_and_a_finished_session_no_flow() -> None:
    person = Person()
    person.post("sign-up", {"email": EMAIL, "password": PASSWORD})
    stolen = person.flow
    client = ApiClient(stolen)
    assert client.get(AUTH + "factors").status_code == 401
    assert client.get("/api/v1/me").status_code == 401
    Person("203.0.113.1").client  # noqa: B018
    from tests.accounts.signin.support import code_sent

    assert person.post("verify", {"code": code_sent()}).status_code == 200
    # Its key changed when it was finished, and the new one is nobody's to send.
    for key in (Session.objects.get().django_key, DjangoSession.objects.get().session_key):
        for token in (key, stolen):
            other = Person()
            other.flow = token
            assert other.post("password", {"new_password": OTHER}).status_code == 401
            assert other.get("flow").status_code in (200, 410)
            assert other.delete("flow").status_code in (204, 410)
    assert person.get("factors").status_code == 200


def test_an_api_key_changes_nothing_here() -> None:
    _, client = user_with_key()
    for method, path in [
        ("GET", "factors"),
        ("POST", "factors/totp"),
        ("POST", "password"),
        ("POST", "step-up"),
        ("GET", "passkeys"),
        ("DELETE", "passkeys/1"),
    ]:
        assert client.send(method, AUTH + path, body={} if method == "POST" else None).status_code in (
            401,
            403,
        )


def test_sessions_are_encrypted_at_rest() -> None:
    person = Person()
    person.post("sign-up", {"email": EMAIL, "password": PASSWORD})
    from base64 import b64decode

    from tests.accounts.signin.support import code_sent

    row = DjangoSession.objects.get()
    plain = b64decode(row.session_data)
    assert EMAIL.encode() not in plain
    assert code_sent().encode() not in plain
    # Altered, it is an empty one.
    row.session_data = row.session_data[:-8] + "AAAAAAA="
    row.save()
    assert person.get("flow").json() == {"flows": []}
    incomplete(Person("203.0.113.3").post("password/forgot", {"email": EMAIL}), "password_reset_by_code")


def test_whoever_reads_the_table_of_sessions_goes_on_with_none_of_them() -> None:
    # given somebody whose second factor is asked for, and somebody in the admin
    ann = Person().sign_up()
    ann.totp_add()
    half = Person("203.0.113.4")
    incomplete(half.sign_in(), "mfa_authenticate")
    staff = browser("view_user")
    cookie = staff.cookies["sessionid"].value
    page = "/admin/accounts/user/"
    assert staff.get(page).status_code == 200

    stored = list(DjangoSession.objects.values_list("session_key", flat=True))

    assert len(stored) == 3
    assert {half.flow, cookie}.isdisjoint(stored)
    for key in stored:
        thief, window = Person("203.0.113.5"), Client()
        thief.flow = key
        problem(thief.post("sign-in/factor", {"code": ann.totp()}), 410, "flow_expired")
        window.cookies["sessionid"] = key
        assert window.get(page).status_code == 302
    # ... and who holds the key does.
    assert half.post("sign-in/factor", {"code": ann.totp()}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_sessions_of_before_go_on_when_their_keys_are_hashed() -> None:
    half = Person()
    half.post("sign-up", {"email": EMAIL, "password": PASSWORD})
    # As they were stored before.
    DjangoSession.objects.update(session_key=half.flow)
    assert half.get("flow").status_code == 410

    with connection.cursor() as cursor:
        cursor.execute(HASHED)

    assert half.get("flow").json() == {"flows": [{"id": "verify_email", "is_pending": True}]}
