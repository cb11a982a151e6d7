"""Signing up: the code, its tries and its pause, and what is said of an email that is known."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.cache import cache
from django.db import connection

from apps.accounts import signup_gate
from apps.accounts.models import User
from apps.accounts.signin import adapter, notices
from apps.events.models import Event
from tests.accounts.signin.support import EMAIL, OTHER, PASSWORD, Person, code_sent, incomplete, mails
from tests.core.api.support import problem

pytestmark = pytest.mark.django_db
BODY = {"email": EMAIL, "password": PASSWORD}


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a password was hashed or compared, by the costly function."""
    counted: Counter[str] = Counter()
    for name in ("encode", "verify"):
        real = getattr(Argon2PasswordHasher, name)

        def counting(self: Any, *args: Any, _real: Any = real, **kwargs: Any) -> Any:
            counted["hashes"] += 1
            return _real(self, *args, **kwargs)

        monkeypatch.setattr(Argon2PasswordHasher, name, counting)
    return counted


def test_a_person_signs_up_proves_the_email_and_signs_in() -> None:
    person = Person()
    incomplete(person.post("sign-up", {"email": "Ann@Example.ORG", "password": PASSWORD}), "verify_email")
    user = User.objects.get()
    assert (user.email, user.password.split("$")[:2]) == (EMAIL, ["argon2", "argon2id"])
    [(template, context)] = mails()
    assert (template, context["minutes"], len(context["code"]), context["code"].isdigit()) == (
        "code",
        10,
        6,
        True,
    )

    answer = person.post("verify", {"code": context["code"]})

    assert answer.status_code == 200, answer.content
    assert answer["Cache-Control"] == "no-store"
    document = answer.json()
    assert document["user"] == {"id": str(user.pk), "email": EMAIL}
    assert document["access_token"]
    assert "session_token" not in document
    topics = Event.objects.filter(subject_id=user.pk).order_by("sequence").values_list("topic", flat=True)
    assert [topic for topic in topics if topic.startswith("person.")] == [
        "person.signed_up",
        "person.email_verified",
    ]
    assert Person().sign_in().status_code == 200


def test_who_has_not_proved_the_email_is_not_let_in(later: Callable[[float], None]) -> None:
    Person().post("sign-up", BODY)
    later(31)
    again = Person()
    incomplete(again.sign_in(), "verify_email")
    assert again.get("factors").status_code == 401
    assert again.post("verify", {"code": code_sent()}).status_code == 200


@pytest.mark.parametrize(
    ("password", "codes"),
    [
        ("short-46", ["password_too_short"]),
        ("qwertyuiop", ["password_breached"]),
        ("Sunshine2024!", ["password_breached"]),
        ("password123!", ["password_breached"]),
        ("ann@example.org", ["password_too_similar"]),
    ],
)
def test_a_bad_password_is_refused(password: str, codes: list[str]) -> None:
    answer = Person().post("sign-up", {"email": EMAIL, "password": password})
    problem(answer, 400, "validation_failed", errors=[("/password", code) for code in codes])
    assert (User.objects.count(), mails()) == (0, [])


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({**BODY, "is_staff": True}, [("/is_staff", "unknown_field")]),
        ({"email": EMAIL}, [("/password", "required")]),
        ({"email": "ann", "password": PASSWORD}, [("/email", "invalid")]),
        ({"email": "ann@exämple.org", "password": PASSWORD}, [("/email", "not_ascii")]),
        ({"email": 5, "password": PASSWORD}, [("/email", "invalid")]),
        ({"email": EMAIL, "password": ["x"]}, [("/password", "invalid")]),
        ({"email": EMAIL, "password": "x" * 129}, [("/password", "max_length")]),
    ],
)
def test_a_bad_body_is_refused(body: dict[str, Any], errors: list[tuple[str, str]]) -> None:
    problem(Person().post("sign-up", body), 400, "validation_failed", errors=errors)
    assert User.objects.count() == 0


def test_an_email_that_is_known_is_answered_the_same_with_the_same_work(
    hashed: Counter[str], later: Callable[[float], None]
) -> None:
    Person().sign_up()
    later(31)
    told = len(mails())
    hashed.clear()
    new = incomplete(Person().post("sign-up", {**BODY, "email": "new@example.org"}), "verify_email")
    work = dict(hashed)
    hashed.clear()

    known = incomplete(Person().post("sign-up", {**BODY, "password": OTHER}), "verify_email")

    assert dict(hashed) == work == {"hashes": 1}
    for document in (new, known):
        assert document.pop("session_token")
        del document["request_id"]
    assert known == new
    assert [name for name, _ in mails()[told:]] == ["account_exists"]
    assert User.objects.filter(email=EMAIL).count() == 1
    assert Person().sign_in(password=OTHER).status_code == 400


def test_the_step_after_a_known_email_is_refused_like_a_wrong_code(later: Callable[[float], None]) -> None:
    Person().sign_up()
    later(31)
    known, new = Person(), Person()
    known.post("sign-up", BODY)
    new.post("sign-up", {**BODY, "email": "new@example.org"})
    wrong = "000000" if code_sent(to="new@example.org") != "000000" else "111111"
    said = [problem(who.post("verify", {"code": wrong}), 400, "wrong_code") for who in (known, new)]
    for document in said:
        del document["request_id"]
    assert said[0] == said[1]
    assert said[0]["errors"][0]["pointer"] == "/code"


def test_five_tries_and_the_flow_is_over() -> None:
    person = Person()
    person.post("sign-up", BODY)
    right = code_sent()
    wrong = "000000" if right != "000000" else "111111"
    for _ in range(5):
        problem(person.post("verify", {"code": wrong}), 400, "wrong_code")
    answer = person.post("verify", {"code": right})
    assert answer.status_code in (409, 410), answer.content
    assert not EmailAddress.objects.filter(verified=True).exists()


def test_four_wrong_tries_leave_one() -> None:
    person = Person()
    person.post("sign-up", BODY)
    right = code_sent()
    for _ in range(4):
        problem(person.post("verify", {"code": "000000" if right != "000000" else "1"}), 400, "wrong_code")
    assert person.post("verify", {"code": right}).status_code == 200


@pytest.mark.parametrize(("seconds", "status"), [(595, 200), (601, 409)])
def test_a_code_lasts_ten_minutes(later: Callable[[float], None], seconds: int, status: int) -> None:
    person = Person()
    person.post("sign-up", BODY)
    later(seconds)
    assert person.post("verify", {"code": code_sent()}).status_code == status


def test_another_code_after_a_pause_and_the_one_before_is_worthless(later: Callable[[float], None]) -> None:
    person = Person()
    began = time.monotonic()
    person.post("sign-up", BODY)
    first = code_sent()
    document = person.post("verify/resend")
    problem(document, 429, "throttled", retryable=True)
    # What is left of it, or less by the seconds that this took.
    assert 30 - int(time.monotonic() - began) <= int(document["Retry-After"]) <= 30
    # What is counted does not lie in Redis.
    cache.clear()
    problem(person.post("verify/resend"), 429, "throttled", retryable=True)
    later(31)

    assert person.post("verify/resend").status_code == 204

    second = code_sent()
    assert len(mails()) == 2
    if first != second:
        problem(person.post("verify", {"code": first}), 400, "wrong_code")
    assert person.post("verify", {"code": second}).status_code == 200


def test_at_most_six_codes_an_hour_to_one_address(later: Callable[[float], None]) -> None:
    for number in range(8):
        # As whoever wants to fill a mailbox would: a sign-up each time, from another place.
        Person(address=f"198.51.100.{number}").post("sign-up", BODY)
        later(40)
    assert len(mails()) == 6


def test_two_people_who_want_one_email_at_once_get_one_account_and_one_answer(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked and found the email free before either makes the account."""
    together = threading.Barrier(2, timeout=20)
    real = adapter.AccountAdapter.save_user

    def meeting(self: Any, *args: Any, **kwargs: Any) -> Any:
        together.wait()
        return real(self, *args, **kwargs)

    monkeypatch.setattr(adapter.AccountAdapter, "save_user", meeting)
    answers: list[int] = []

    def sign_up(number: int) -> None:
        try:
            body = {"email": EMAIL, "password": f"{PASSWORD}-{number}"}
            answers.append(Person(address=f"198.51.100.{number}").post("sign-up", body).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=sign_up, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) in ([401, 401], [401, 429])
    assert User.objects.count() == 1


def test_a_sign_up_whose_mail_cannot_be_queued_never_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("no mail today")

    monkeypatch.setattr(notices, "message_queue", broken)
    problem(Person().post("sign-up", BODY), 500, "internal_error", retryable=True)
    assert (User.objects.count(), EmailAddress.objects.count(), Event.objects.count()) == (0, 0, 0)


class Closed(signup_gate.Open):
    """Lets in who has the invitation, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def check(self, *, email: str, invitation: str) -> None:
        self.asked.append(("check", email, invitation))
        if invitation != "golden":
            raise signup_gate.SignUpRefused("invitation_required", "By invitation.")

    def used(self, *, user_id: Any, email: str, invitation: str) -> None:
        self.asked.append(("used", email, invitation))


def test_the_gate_is_asked_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Closed()
    monkeypatch.setattr(signup_gate, "_current", gate)
    problem(Person().post("sign-up", BODY), 403, "invitation_required")
    assert User.objects.count() == 0
    incomplete(Person().post("sign-up", {**BODY, "invitation": "golden"}), "verify_email")
    assert gate.asked == [("check", EMAIL, ""), ("check", EMAIL, "golden"), ("used", EMAIL, "golden")]
