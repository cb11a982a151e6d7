"""What begins while an account is being closed waits for it, and then finds nobody."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.db import connection, transaction
from django.test import Client

from apps.accounts import closing
from apps.accounts.models import User
from apps.accounts.services import user_create, user_freeze
from apps.mail.models import Message
from tests.accounts.signin.support import EMAIL, OTHER, PASSWORD, Person, code_sent, incomplete
from tests.core.test_keys import wait_for_a_waiter

pytestmark = pytest.mark.django_db(transaction=True)


def meanwhile(change: Callable[[], Any], ask: Callable[[], Any]) -> Any:
    """What `ask` answered or raised, asked in a thread while `change` had been made and was not committed yet."""
    answers: list[Any] = []

    def work() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # noqa: BLE001 — looked at by the test
            answers.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    with transaction.atomic():
        change()
        thread.start()
        wait_for_a_waiter()
    thread.join()
    return answers[0]


def closed() -> None:
    closing.account_close(user_id=User.objects.get().pk)


def is_closed() -> None:
    user = User.objects.get()
    assert (user.email, user.is_active) == (f"closed-{user.pk}@closed.invalid", False)
    assert not user.has_usable_password()
    assert EmailAddress.objects.count() + Authenticator.objects.count() == 0
    assert Message.objects.order_by("created_at", "id").last().template == "account_closed"  # type: ignore[union-attr]


@pytest.mark.parametrize("change", ["email", "password", "factor", "reset"])
def test_nothing_of_an_account_that_was_just_closed_is_changed(change: str) -> None:
    person = Person().sign_up()
    if change == "email":
        assert person.post("email", {"email": "ann@example.net"}).status_code == 202
        path, body = "email/confirm", {"code": code_sent(to="ann@example.net")}
    elif change == "password":
        path, body = "password", {"current_password": PASSWORD, "new_password": OTHER}
    elif change == "factor":
        person.secret = person.post("factors/totp").json()["secret"]
        path, body = "factors/totp/confirm", {"code": person.totp()}
    else:
        person = Person()
        incomplete(person.post("password/forgot", {"email": EMAIL}), "password_reset_by_code")
        path, body = "password/reset", {"code": code_sent("password_reset_code"), "password": OTHER}

    answer = meanwhile(closed, lambda: person.post(path, body))

    assert (answer.status_code, answer.json()["code"]) == (
        (410, "flow_expired") if change == "reset" else (401, "not_authenticated")
    )
    is_closed()


FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "person": ("/admin/accounts/user/{}/change/", {"email": EMAIL, "fee_tier": "gold", "is_active": "on"}),
    "password": (
        "/admin/accounts/user/{}/password/",
        {
            "password1": OTHER,
            "password2": OTHER,
            "usable_password": "true",
            "set-password": "Change password",
        },
    ),
    "own password": (
        "/admin/password_change/",
        {"old_password": PASSWORD, "new_password1": OTHER, "new_password2": OTHER},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_the_admin_does_not_unfreeze(form: str) -> None:
    own = form == "own password"
    user = user_create(email=EMAIL, password=PASSWORD)
    staff = user if own else user_create(email="root@example.org")
    User.objects.filter(pk=staff.pk).update(is_staff=True, is_superuser=True)
    admin, (path, values) = Client(), FORMS[form]
    admin.force_login(User.objects.get(pk=staff.pk))

    answer = meanwhile(
        lambda: user_freeze(user_id=user.pk, reason="look"), lambda: admin.post(path.format(user.pk), values)
    )

    assert answer.status_code == 302, answer.content.decode()[-3_000:]
    user.refresh_from_db()
    assert (user.frozen_reason, user.frozen_at is not None) == ("look", True)
    # ... and what the form was for is done.
    assert user.fee_tier == "gold" if form == "person" else user.check_password(OTHER)


def test_a_form_of_the_admin_does_not_open_a_closed_account_again() -> None:
    user_create(email=EMAIL, password=PASSWORD)
    user, admin, (path, values) = User.objects.get(), Client(), FORMS["person"]
    admin.force_login(User.objects.create_superuser("root@example.org", PASSWORD))

    answer = meanwhile(
        lambda: closing.account_close(user_id=user.pk), lambda: admin.post(path.format(user.pk), values)
    )

    assert answer.status_code == 403
    user.refresh_from_db()
    assert (user.email, user.is_active, user.fee_tier) == (
        f"closed-{user.pk}@closed.invalid",
        False,
        "standard",
    )


def test_a_new_password_does_not_unfreeze() -> None:
    person = Person().sign_up()
    user = User.objects.get()

    answer = meanwhile(
        lambda: user_freeze(user_id=user.pk, reason="look"),
        lambda: person.post("password", {"current_password": PASSWORD, "new_password": OTHER}),
    )

    assert answer.status_code == 204
    user.refresh_from_db()
    assert (user.frozen_at is not None, user.check_password(OTHER)) == (True, True)
