"""`manage.py accounts`."""

import io
import sys

import pytest
from django.core.management import CommandError, call_command

from apps.accounts.models import ApiKey, User
from tests.core.api.support import ApiClient

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("accounts", *arguments, stdout=out)
    return out.getvalue().strip()


def test_user_then_key_then_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse battery\n"))
    user_id = run("create-user", "--email", "Ann@Example.org", "--staff", "--password-stdin")
    user = User.objects.get()
    assert (str(user.id), user.email, user.is_staff) == (user_id, "ann@example.org", True)
    assert user.check_password("correct horse battery")
    key = run("create-key", "--email", "ANN@example.org", "--scopes", "plans:read,balances:read", "keys:read")
    answer = ApiClient(key).get("/api/v1/me").json()
    assert answer["scopes"] == ["balances:read", "keys:read", "plans:read"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("create-user", "--email", "nonsense"),
        ("create-user", "--email", "ann@example.org"),
        ("create-key", "--email", "nobody@example.org", "--scopes", "plans:read"),
        ("create-key", "--email", "ann@example.org", "--scopes", "root"),
        ("create-key", "--email", "ann@example.org"),
    ],
)
def test_refusals_change_nothing(arguments: tuple[str, ...]) -> None:
    run("create-user", "--email", "ann@example.org")
    with pytest.raises(CommandError):
        run(*arguments)
    assert (User.objects.count(), ApiKey.objects.count()) == (1, 0)
