"""Staff get in with password and second factor; whoever has none reaches the page on which to get one, and no other."""

from urllib.parse import urlsplit

import pytest
from django.test import Client

from apps.accounts import second_factor
from apps.accounts.adminsite import signing_in
from apps.accounts.audit.models import AuditRecord
from apps.accounts.models import User
from apps.accounts.roles import Role, role_grant, role_revoke
from apps.accounts.services import user_create
from tests.accounts.roles.factor import SECRET, Authenticators

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"
CODE, ENROL = "/admin/second-factor/", "/admin/second-factor/enrol/"


@pytest.fixture
def operator() -> User:
    user = user_create(email="op@example.org", password=PASSWORD)
    role_grant(user_id=user.pk, role=Role.OPERATOR, actor="test")
    return User.objects.get(pk=user.pk)


def password_shown(email: str = "op@example.org", to: str = "/admin/plans/plan/") -> tuple[Client, str]:
    client = Client()
    answer = client.post(f"/admin/login/?next={to}", {"username": email, "password": PASSWORD})
    return client, urlsplit(answer.headers.get("Location", "")).path


def inside(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_a_password_alone_opens_nothing(operator: User, authenticators: Authenticators) -> None:
    authenticators.secrets[operator.pk] = SECRET

    client, then = password_shown()

    assert then == CODE
    assert "_auth_user_id" not in client.session
    for page in ("/admin/", "/admin/plans/plan/", "/admin/password_change/"):
        assert urlsplit(client.get(page)["Location"]).path == "/admin/login/"


def test_the_code_opens_the_page_that_was_asked_for(operator: User, authenticators: Authenticators) -> None:
    authenticators.secrets[operator.pk] = SECRET
    client, _ = password_shown()
    before = client.session.session_key

    answer = client.post(CODE, {"code": f"{SECRET}-1"})

    assert (answer.status_code, answer["Location"]) == (302, "/admin/plans/plan/")
    assert client.get("/admin/plans/plan/").status_code == 200
    assert client.session.session_key != before
    assert authenticators.asked == ["admin"]
    assert AuditRecord.objects.filter(actor_id=operator.pk, action="admin.signed_in").count() == 1


def test_a_used_or_wrong_code_opens_nothing_and_is_written_down(
    operator: User, authenticators: Authenticators
) -> None:
    authenticators.secrets[operator.pk] = SECRET
    client, _ = password_shown()
    assert client.post(CODE, {"code": f"{SECRET}-1"}).status_code == 302

    other, _ = password_shown()
    for code in (f"{SECRET}-1", "000000", ""):
        assert other.post(CODE, {"code": code}).status_code == 200
        assert not inside(other)
    refused = AuditRecord.objects.filter(actor_id=operator.pk, action=signing_in.REFUSED)
    assert [(one.before, one.after, one.address) for one in refused] == [(None, None, "127.0.0.1")] * 2


def test_after_ten_wrong_codes_the_right_one_has_to_wait(
    operator: User, authenticators: Authenticators
) -> None:
    authenticators.secrets[operator.pk] = SECRET
    # Of two sessions: the count is the person's, not the session's.
    for client, _ in (password_shown(), password_shown()):
        for _ in range(signing_in.TRIES_MAX // 2):
            client.post(CODE, {"code": "000000"})

    client, _ = password_shown()
    answer = client.post(CODE, {"code": f"{SECRET}-1"})

    assert "Too many wrong codes" in answer.content.decode()
    assert not inside(client)
    assert len(authenticators.asked) == signing_in.TRIES_MAX


def test_staff_without_a_factor_reach_the_enrolment_and_nothing_else(
    operator: User, authenticators: Authenticators
) -> None:
    client, then = password_shown()

    assert then == ENROL
    assert not inside(client)
    page = client.get(ENROL)
    assert page.status_code == 200
    assert SECRET in page.content.decode()
    assert urlsplit(client.get(CODE)["Location"]).path == ENROL

    assert client.post(ENROL, {"code": "000000"}).status_code == 200
    assert not inside(client)
    done = client.post(ENROL, {"code": f"{SECRET}-1"})
    assert "recovery-1" in done.content.decode()
    assert "/admin/plans/plan/" in done.content.decode()
    assert inside(client)
    assert operator.pk in authenticators.secrets
    assert AuditRecord.objects.filter(actor_id=operator.pk, action="second_factor.enrolled").count() == 1


def test_whoever_has_a_factor_cannot_enrol_another_past_it(
    operator: User, authenticators: Authenticators
) -> None:
    client, _ = password_shown()
    client.get(ENROL)
    authenticators.secrets[operator.pk] = "THEIRS"

    assert urlsplit(client.post(ENROL, {"code": f"{SECRET}-1"})["Location"]).path == CODE
    assert authenticators.secrets[operator.pk] == "THEIRS"


def test_where_nobody_can_enrol_nobody_gets_in(operator: User, authenticators: Authenticators) -> None:
    second_factor.enrolment_install(None)
    client, then = password_shown()

    assert then == ENROL
    assert client.get(ENROL).status_code == 403
    assert not inside(client)


def test_the_steps_cannot_be_begun_in_the_middle(operator: User, authenticators: Authenticators) -> None:
    authenticators.secrets[operator.pk] = SECRET
    for page in (CODE, ENROL):
        answer = Client().post(page, {"code": f"{SECRET}-1"})
        assert urlsplit(answer["Location"]).path == "/admin/login/"
    assert authenticators.asked == []


@pytest.mark.parametrize("change", ["role", "password", "active", "time"])
def test_what_changed_since_the_password_counts(
    operator: User, authenticators: Authenticators, change: str
) -> None:
    authenticators.secrets[operator.pk] = SECRET
    client, _ = password_shown()
    if change == "role":
        role_revoke(user_id=operator.pk, role=Role.OPERATOR, actor="test")
    elif change == "password":
        operator.set_password("another horse battery")
        operator.save()
    elif change == "active":
        User.objects.filter(pk=operator.pk).update(is_active=False)
    else:
        session = client.session
        session[signing_in.PENDING] |= {"at": session[signing_in.PENDING]["at"] - signing_in.PENDING_SECONDS}
        session.save()

    assert urlsplit(client.post(CODE, {"code": f"{SECRET}-1"})["Location"]).path == "/admin/login/"
    assert not inside(client)


def test_a_factor_that_was_shown_long_ago_is_asked_for_again(operator: User, settings: object) -> None:
    client = Client()
    client.force_login(operator)
    assert inside(client)
    session = client.session
    session[signing_in.SHOWN] -= 12 * 3_600
    session.save()
    assert not inside(client)


def test_customers_and_wrong_passwords_get_the_same_answer(authenticators: Authenticators) -> None:
    user_create(email="ann@example.org", password=PASSWORD)
    answers = []
    for email, password in (
        ("ann@example.org", PASSWORD),
        ("op@example.org", "wrong"),
        ("no@example.org", "x"),
    ):
        client = Client()
        answer = client.post("/admin/login/", {"username": email, "password": password})
        answers.append((answer.status_code, "Please enter the correct" in answer.content.decode()))
        assert signing_in.PENDING not in client.session
    assert answers == [(200, True)] * 3


def test_it_leads_nowhere_outside(operator: User, authenticators: Authenticators) -> None:
    authenticators.secrets[operator.pk] = SECRET
    client, _ = password_shown(to="https://evil.example/")
    assert client.post(CODE, {"code": f"{SECRET}-1"})["Location"] == "/admin/"
