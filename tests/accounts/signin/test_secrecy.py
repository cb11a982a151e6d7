"""Codes and passwords are in no log line; every body is strict; counts hold under concurrency."""

import logging
import re
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.sessions.models import Session as DjangoSession
from django.db import connection
from django.test import Client

from apps.accounts.signin.api.urls import urlpatterns
from apps.accounts.signin.counts import MARKS
from apps.accounts.signin.services import signin_purge
from tests.accounts.signin.authenticator import Authenticator
from tests.accounts.signin.support import EMAIL, OTHER, PASSWORD, Person, code_sent
from tests.core.api.support import problem

pytestmark = pytest.mark.django_db
_NO_BODY = {
    "auth-verify-resend", "auth-factor-passkey-options", "auth-passkey-options", "auth-email-resend",
    "auth-step-up-passkey-options", "auth-totp", "auth-recovery-codes", "auth-passkeys-options",
}  # fmt: skip


def stands_in(text: str, secret: str) -> bool:
    # Six digits stand by chance in instants and ids, too: only as a word of their own.
    shape = rf"(?<![\w.-]){secret}(?![\w.-])" if secret.isdigit() else re.escape(secret)
    return re.search(shape, text) is not None


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    person = Person()
    secrets = [PASSWORD, OTHER]
    person.post("sign-up", {"email": EMAIL, "password": PASSWORD})
    secrets += [code_sent(), person.flow]
    person.post("verify", {"code": "000000"})
    person.post("verify", {"code": code_sent()})
    secrets += [person.access, *person.totp_add(), person.secret]
    phone = Authenticator()
    secrets.append(person.totp(1))
    assert person.post("step-up", {"code": secrets[-1]}).status_code == 204
    options = person.post("passkeys/options", {}).json()["options"]
    assert person.post("passkeys", {"name": "p", "credential": phone.create(options)}).status_code == 201
    options = person.post("step-up/passkey/options").json()["options"]
    shown = phone.get(options)
    secrets.append(person.post("step-up/passkey", {"credential": shown}).json()["code"])
    # No secret, but it tells one person's devices apart; fido2 writes it in hexadecimal.
    raw = urlsafe_b64decode(shown["id"] + "==")
    secrets += [shown["id"], raw.hex()]
    wrong = Person("203.0.113.9")
    wrong.sign_in(password=OTHER)
    wrong.post("password/forgot", {"email": EMAIL})
    secrets += [code_sent("password_reset_code"), wrong.flow]
    wrong.post("password/reset", {"code": "BBBB-BBBB", "password": OTHER})
    answer = wrong.post("password/reset", {"code": code_sent("password_reset_code"), "password": OTHER})
    assert answer.status_code == 204

    written = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)

    assert len(caplog.records) > 15
    assert [secret for secret in secrets if secret and stands_in(written, secret)] == []


@pytest.mark.parametrize("way", ["api", "admin"])
def test_a_failed_sign_in_is_logged_without_password_email_or_address(
    caplog: pytest.LogCaptureFixture, way: str
) -> None:
    Person().sign_up()
    wrong = Person("203.0.113.9")
    browser = Client(REMOTE_ADDR="203.0.113.9", HTTP_USER_AGENT="agent")
    caplog.clear()

    with caplog.at_level(logging.INFO):
        for _ in range(6):
            if way == "api":
                answer = wrong.sign_in(password=OTHER)
            else:
                answer = browser.post("/admin/login/", {"username": EMAIL, "password": OTHER})
    assert answer.status_code == 429
    assert 890 < int(answer["Retry-After"]) <= 900

    formatter = logging.Formatter()
    written = "\n".join(f"{formatter.format(record)} {record.__dict__}" for record in caplog.records)
    assert "Locking out" in written
    assert [found for found in (PASSWORD, OTHER, EMAIL, EMAIL.upper()) if found in written] == []
    of_axes = [record for record in caplog.records if record.name.startswith("axes")]
    assert "203.0.113.9" not in " ".join(f"{record.getMessage()}" for record in of_axes)
    assert {record.levelno for record in of_axes} == {logging.WARNING}
    # Nor in what axes writes down of the form.
    assert OTHER not in str(list(AccessAttempt.objects.values()))


def paths() -> list[tuple[str, str, str]]:
    """Name, path and method of every write here."""
    found = []
    for pattern in urlpatterns:
        view: Any = pattern.callback.view_class  # type: ignore[attr-defined]
        path = str(pattern.pattern).replace("<int:passkey_id>", "1").removeprefix("auth/")
        found += [
            (str(pattern.name), path, method.upper())
            for method in ("post", "put", "patch")
            if hasattr(view, method)
        ]
    return found


@pytest.mark.parametrize(("name", "path", "method"), paths())
def test_unknown_fields_and_other_shapes_are_refused(name: str, path: str, method: str) -> None:
    person = Person().sign_up()
    document = problem(person.send(method, path, {"is_staff": True}), 400, "validation_failed")
    assert {"pointer": "/is_staff", "code": "unknown_field"}.items() <= document["errors"][-1].items()
    problem(person.send(method, path, [1]), 400, "validation_failed")
    if name not in _NO_BODY:
        assert person.send(method, path, None).status_code in (400, 404)


def test_every_write_that_wants_nobody_refuses_a_stranger_of_person_views() -> None:
    open_to_all = 0
    for pattern in urlpatterns:
        view: Any = pattern.callback.view_class  # type: ignore[attr-defined]
        path = str(pattern.pattern).replace("<int:passkey_id>", "1").removeprefix("auth/")
        if view.public:
            open_to_all += 1
            continue
        for method in ("get", "post", "patch", "delete"):
            if hasattr(view, method):
                answer = Person().send(method.upper(), path, {} if method in ("post", "patch") else None)
                problem(answer, 401, "not_authenticated")
    assert open_to_all == 13


def test_of_many_at_once_one_adds_and_one_takes(transactional_db: None) -> None:
    added, taken = [], []

    def add_and_take() -> None:
        try:
            added.append(MARKS.add("one", True, 60))
            taken.append(MARKS.take("other"))
        finally:
            connection.close()

    MARKS.set("other", True, 60)
    threads = [threading.Thread(target=add_and_take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (added.count(True), taken.count(True)) == (1, 1)


def test_what_is_over_is_gone_and_swept() -> None:
    MARKS.set("over", {"a": [1.5]}, 0)
    assert MARKS.get("over") is None
    assert MARKS.add("over", [2], 60)
    assert MARKS.get("over") == [2]
    MARKS.set("gone", 1, 0)
    MARKS.set("fresh", 1, 60)
    with connection.cursor() as cursor:
        cursor.execute("SELECT key FROM accounts_signinmark ORDER BY key")
        assert [row[0] for row in cursor.fetchall()] == ["fresh", "over"]
    MARKS.set("long " * 100, 1, 60)
    assert MARKS.get("long " * 100) == 1


def test_what_is_over_is_purged_and_the_rest_is_left(later: Callable[[float], None]) -> None:
    person = Person().sign_up()
    left = Person("203.0.113.8")
    left.post("password/forgot", {"email": EMAIL})
    left.sign_in(password=OTHER)
    assert (DjangoSession.objects.count(), AccessAttempt.objects.count()) == (2, 1)
    assert signin_purge() == 0
    later(3_700)
    # With the counts of an hour ago.
    assert signin_purge() > 2
    assert (DjangoSession.objects.count(), AccessAttempt.objects.count()) == (1, 0)
    assert person.get("factors").status_code in (200, 401)
