"""The whole way into the admin on allauth's own factors: enrol, recovery codes, and the next time the code."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.test import Client

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.accounts.roles import Role, role_grant
from apps.accounts.services import user_create
from apps.accounts.signin.factor import AllauthSecondFactor
from apps.sandbox.authenticator import code_now
from apps.sandbox.prepare import _operator_ensure

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery staple 7"
CODE, ENROL = "/admin/second-factor/", "/admin/second-factor/enrol/"


def password_shown() -> tuple[Client, str]:
    client = Client()
    answer = client.post("/admin/login/", {"username": "op@example.org", "password": PASSWORD})
    return client, urlsplit(answer.headers.get("Location", "")).path


@pytest.fixture
def operator() -> User:
    user = user_create(email="op@example.org", password=PASSWORD)
    role_grant(user_id=user.pk, role=Role.OPERATOR, actor="test")
    return User.objects.get(pk=user.pk)


def test_enrolled_in_the_admin_and_asked_from_then_on(operator: User) -> None:
    assert isinstance(second_factor.current(), AllauthSecondFactor)
    client, then = password_shown()
    assert then == ENROL
    page = client.get(ENROL).content.decode()
    found = re.search(r"<code[^>]*>([A-Z2-7]{32})</code>", page)
    assert found is not None
    assert "<svg" in page
    secret = found[1]

    wrong = client.post(ENROL, {"code": code_now(secret, steps=20)})
    assert wrong.status_code == 200
    assert secret in wrong.content.decode()
    assert not second_factor.current().enrolled(user_ids={operator.pk})

    code = code_now(secret)
    done = client.post(ENROL, {"code": code})
    recovery = re.findall(r"<li>([0-9a-zA-Z-]+)</li>", done.content.decode())
    assert len(recovery) == 10
    assert client.get("/admin/").status_code == 200
    assert secret not in client.get("/admin/accounts/user/").content.decode()

    again, then = password_shown()
    assert then == CODE
    # What confirmed the factor is used up with it.
    assert again.post(CODE, {"code": code}).status_code == 200
    assert again.get("/admin/").status_code == 302
    assert again.post(CODE, {"code": recovery[0]}).status_code == 302
    assert again.get("/admin/").status_code == 200

    third, _ = password_shown()
    assert third.post(CODE, {"code": recovery[0]}).status_code == 200
    assert third.get("/admin/").status_code == 302
    assert third.post(CODE, {"code": code_now(secret, steps=1)}).status_code == 302


def test_the_sandbox_s_operator_gets_in_with_the_sandbox_s_code(tmp_path: Path) -> None:
    _operator_ensure(tmp_path / "operator.json")
    operator = json.loads((tmp_path / "operator.json").read_text())
    client = Client()

    login = {"username": operator["email"], "password": operator["password"]}
    assert client.post("/admin/login/", login)["Location"] == CODE
    assert client.post(CODE, {"code": code_now(operator["totp_secret"])}).status_code == 302

    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/withdrawals/withdrawal/").status_code == 200
