"""Sessions: listed, signed out one, all or this, stepped up, told of, purged; and nobody else's."""

from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session as DjangoSession
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import RefreshToken, Session, User
from apps.accounts.services import user_create
from apps.accounts.signin.sessions import stored_key
from apps.accounts.tokens.domain import device_hash, device_label, device_name, factors_of
from apps.accounts.tokens.services import (
    password_changed,
    session_open,
    session_step_up,
    sessions_purge,
)
from apps.core import clock
from apps.core.api.problems import ProblemError
from apps.events.models import Event
from tests.accounts.tokens.support import FIREFOX, request_of, sign_in, signed_in
from tests.core.api.support import ApiClient, problem, user_with_key

pytestmark = pytest.mark.django_db
ME, SESSIONS, SIGN_OUT, KEYS = "/api/v1/me", "/api/v1/sessions", "/api/v1/auth/sign-out", "/api/v1/api-keys"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Safari/604.1"
)


# The same in every process that collects the tests.
NOBODY = "018f0000-0000-7000-8000-000000000001"


def test_list_says_where_one_is_signed_in() -> None:
    _user, phone, _ = signed_in(
        agent=SAFARI, address="2001:db8::7", transport="cookie", factors=("password", "totp")
    )
    _, _, client = signed_in()
    response = client.get(SESSIONS)
    assert response.status_code == 200, response.content
    here, there = response.json()["data"]
    session = Session.objects.get(pk=phone.session_id)

    def text(at: Any) -> str:
        return str(at.isoformat().replace("+00:00", "Z"))

    assert there == {
        "id": str(phone.session_id), "device": SAFARI, "address": "2001:db8::7", "transport": "cookie",
        "factors": ["password", "totp"], "created_at": text(session.created_at),
        "authenticated_at": text(session.authenticated_at), "last_used_at": text(session.last_used_at),
        "expires_at": text(session.created_at + timedelta(days=90)), "current": False,
    }  # fmt: skip
    assert (here["current"], here["address"], here["device"]) == (True, "192.0.2.7", FIREFOX)
    assert response.json()["next_cursor"] is None


def test_list_pages_in_two_queries_and_leaves_out_what_is_over() -> None:
    user, _, client = signed_in()
    others = [sign_in(user).session_id for _ in range(5)]
    Session.objects.filter(pk=others[0]).update(revoked_at=clock.now(), reason="signed_out")
    Session.objects.filter(pk=others[1]).update(
        created_at=clock.now() - timedelta(days=90), expires_at=clock.now()
    )
    Session.objects.filter(pk=others[2]).update(password_stamp="0" * 64)
    with CaptureQueriesContext(connection) as queries:
        page = client.get(SESSIONS, {"limit": "2"}).json()
    assert len(queries) == 2
    assert [row["id"] for row in page["data"]] == [str(others[4]), str(others[3])]
    rest = client.get(SESSIONS, {"limit": "2", "cursor": page["next_cursor"]}).json()
    assert [row["current"] for row in rest["data"]] == [True]


def test_sign_out_ends_this_session_at_once() -> None:
    user, pair, client = signed_in()
    _, _, elsewhere = signed_in()
    response = client.post(SIGN_OUT)
    assert (response.status_code, response.content) == (204, b"")
    problem(client.get(ME), 401, "invalid_access_token")
    problem(
        ApiClient().post("/api/v1/auth/refresh", {"refresh_token": pair.refresh_token}),
        401,
        "invalid_refresh_token",
    )
    assert Session.objects.get(pk=pair.session_id).reason == "signed_out"
    assert elsewhere.get(ME).status_code == 200
    assert not DjangoSession.objects.filter(
        session_key=stored_key(Session.objects.get(pk=pair.session_id).django_key)
    ).exists()
    # The cookies go, too.
    assert response.cookies["tranche_refresh"]["max-age"] == 0
    assert response.cookies["tranche_refresh"]["path"] == "/api/v1/auth"
    event = Event.objects.get(topic="session.revoked")
    assert (event.subject_type, event.subject_id, event.object_id) == ("person", user.pk, pair.session_id)
    assert event.payload["reason"] == "signed_out"


def test_sign_out_takes_no_body() -> None:
    _, _, client = signed_in()
    problem(
        client.post(SIGN_OUT, {"all": True}), 400, "validation_failed", errors=[("/all", "unknown_field")]
    )
    assert client.get(ME).status_code == 200


def test_sign_out_one() -> None:
    _, _pair, client = signed_in()
    _, spare, elsewhere = signed_in()
    assert client.delete(f"{SESSIONS}/{spare.session_id}").status_code == 204
    problem(elsewhere.get(ME), 401, "invalid_access_token")
    session = Session.objects.get(pk=spare.session_id)
    assert session.reason == "signed_out_elsewhere"
    assert client.delete(f"{SESSIONS}/{spare.session_id}").status_code == 204
    assert Session.objects.get(pk=spare.session_id).revoked_at == session.revoked_at
    assert Event.objects.filter(topic="session.revoked").count() == 1


@pytest.mark.parametrize(("query", "left"), [({}, 0), ({"keep": "current"}, 1)])
def test_sign_out_everywhere(query: dict[str, str], left: int) -> None:
    user, _, client = signed_in()
    clients = [client, *(signed_in()[2] for _ in range(3))]
    _, _, other = signed_in("bob@example.org")
    response = client.send("DELETE", SESSIONS, query=query)
    assert response.status_code == 204
    assert [one.get(ME).status_code for one in clients] == [200 if left else 401, 401, 401, 401]
    assert bool(response.cookies) is not bool(left)
    assert other.get(ME).status_code == 200
    assert Event.objects.filter(topic="session.revoked", subject_id=user.pk).count() == 4 - left


def test_sign_out_everywhere_with_a_bad_query() -> None:
    _, _, client = signed_in()
    for query, pointed in (
        ({"keep": "all"}, ("keep", "invalid_choice")),
        ({"x": "1"}, ("x", "unknown_field")),
    ):
        problem(client.send("DELETE", SESSIONS, query=query), 400, "validation_failed", errors=[pointed])
    assert client.get(ME).status_code == 200


def test_other_peoples_session_is_not_found() -> None:
    _, _, client = signed_in()
    _, theirs, bob = signed_in("bob@example.org")
    one, other = (
        problem(client.delete(f"{SESSIONS}/{session_id}", x_request_id="same-request"), 404, "not_found")
        for session_id in (theirs.session_id, uuid4())
    )
    assert {**one, "instance": ""} == {**other, "instance": ""}
    assert bob.get(ME).status_code == 200
    assert [row["current"] for row in client.get(SESSIONS).json()["data"]] == [True]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", SESSIONS), ("DELETE", SESSIONS), ("DELETE", f"{SESSIONS}/{NOBODY}"), ("POST", SIGN_OUT)],
)
def test_api_key_is_no_session(method: str, path: str) -> None:
    _, client = user_with_key()
    sign_in(User.objects.get())
    problem(client.send(method, path), 403, "session_required", errors=[])
    problem(ApiClient().send(method, path), 401, "not_authenticated", errors=[])
    assert Session.objects.get().revoked_at is None


def test_step_up_is_asked_for_after_five_minutes_and_works_at_once() -> None:
    _, pair, client = signed_in()
    body = {"name": "laptop", "scopes": ["plans:read"]}
    assert client.post(KEYS, body).status_code == 201
    session = Session.objects.filter(pk=pair.session_id)
    session.update(authenticated_at=clock.now() - timedelta(minutes=5, seconds=1))
    for response in (client.post(KEYS, body), client.delete(f"{KEYS}/{uuid4()}")):
        document = problem(response, 401, "reauthentication_required", errors=[])
        assert document["max_age"] == 300
        assert response["WWW-Authenticate"] == (
            'Bearer realm="api", error="insufficient_user_authentication", max_age=300'
        )
    assert client.get(KEYS).json()["data"][0]["name"] == "laptop", "reading asks for nothing more"
    assert len(client.get(KEYS).json()["data"]) == 1
    session_step_up(session_id=pair.session_id, factor="totp")
    assert client.post(KEYS, body).status_code == 201, "with the token from before"
    session_step_up(session_id=pair.session_id, factor="totp")
    assert session.get().factors == ["password", "totp"]


def test_step_up_is_asked_for_before_a_destination_changes() -> None:
    _, _, client = signed_in()
    Session.objects.update(authenticated_at=clock.now() - timedelta(minutes=6))
    for method, path in (
        ("POST", "/api/v1/withdrawal-destinations"),
        ("DELETE", f"/api/v1/withdrawal-destinations/{NOBODY}"),
    ):
        problem(client.send(method, path, body={}), 401, "reauthentication_required")


def test_new_device_is_told_of() -> None:
    user, _, _ = signed_in()
    sign_in(user, agent=FIREFOX.replace("128.0", "131.0"))
    sign_in(user, agent=SAFARI, address="198.51.100.7", factors=("password", "totp"))
    events = list(Event.objects.filter(topic="session.opened").order_by("sequence"))
    # The first device of all is nobody's surprise, nor is an update of the browser.
    assert [event.payload["new_device"] for event in events] == [False, False, True]
    assert events[2].payload == {
        "device": SAFARI, "address": "198.51.100.7", "transport": "body", "factors": ["password", "totp"],
        "new_device": True,
    }  # fmt: skip
    assert events[2].subject_id == user.pk


def test_transport_is_one_that_there_is() -> None:
    user = user_create(email="ann@example.org")
    with pytest.raises(ProblemError):
        session_open(user=user, request=request_of(x_token_transport="carrier pigeon"))
    assert not Session.objects.exists()


def test_sessions_end_when_the_password_changes_but_the_one_that_changed_it() -> None:
    user, pair, client = signed_in()
    _, _, elsewhere = signed_in()
    user.set_password("harbour Thimble 93")
    user.save()
    password_changed(user=user, keep=pair.session_id)
    assert client.get(ME).status_code == 200
    problem(elsewhere.get(ME), 401, "invalid_access_token")
    assert list(Session.objects.exclude(reason="").values_list("reason", flat=True)) == ["password_changed"]
    password_changed(user=user)
    problem(client.get(ME), 401, "invalid_access_token")


def test_purge_deletes_what_nobody_needs_any_more() -> None:
    user, live, client = signed_in()
    ended, expired, lately = (sign_in(user).session_id for _ in range(3))
    long_ago = clock.now() - timedelta(days=91)
    Session.objects.filter(pk=ended).update(revoked_at=long_ago, reason="signed_out")
    Session.objects.filter(pk=expired).update(created_at=long_ago - timedelta(days=90), expires_at=long_ago)
    Session.objects.filter(pk=lately).update(revoked_at=clock.now(), reason="signed_out")
    RefreshToken.objects.filter(session_id=lately).update(expires_at=clock.now())
    assert sessions_purge() == 5, "two sessions with a token each, and a token"
    assert set(Session.objects.values_list("pk", flat=True)) == {live.session_id, lately}
    assert set(RefreshToken.objects.values_list("session_id", flat=True)) == {live.session_id}
    assert client.get(ME).status_code == 200
    assert sessions_purge() == 0


def test_database_holds_its_own() -> None:
    _user, pair, _ = signed_in()
    bad: list[dict[str, Any]] = [
        {"reason": "signed_out"}, {"revoked_at": clock.now()}, {"transport": "pigeon"},
        {"expires_at": clock.now() - timedelta(days=1)},
    ]  # fmt: skip
    for values in bad:
        with pytest.raises(IntegrityError), transaction.atomic():
            Session.objects.update(**values)
    with pytest.raises(IntegrityError), transaction.atomic():
        RefreshToken.objects.update(token_hash=pair.refresh_token)
    with pytest.raises(IntegrityError), transaction.atomic():
        RefreshToken.objects.create(session_id=pair.session_id, token_hash="0" * 64, expires_at=clock.now())


def test_device_is_shortened_and_printable() -> None:
    assert device_name("  A\x00\x1b[31m\u00fc\nB  ") == "A [31m B"
    assert len(device_name("x" * 5_000)) == 200
    assert device_hash("Firefox/128.0") == device_hash("Firefox/131.0.2") != device_hash("Safari/18")


@pytest.mark.parametrize(
    ("agent", "label"),
    [
        (FIREFOX, "Firefox on Linux"),
        (SAFARI, "Safari on iPhone"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605 Version/17.6 Safari/605", "Safari on Mac"),
        ("curl/8.9", "curl"),
        ("python-requests/2.32", "python-requests"),
        ("TrancheApp/2.1 (iPhone; iOS 18.1)", "TrancheApp"),
        # Whoever signs in with somebody's password chooses these words.
        ("Mozilla/5.0 see https://evil.example/now Firefox/1 Linux", "Firefox on Linux"),
        ("https://evil.example/now", "Unknown device"),
        ("evil.example", "Unknown device"),
        ("Your account is lost: call 555-0100", "Unknown device"),
        ("<b>bold</b>", "Unknown device"),
        ("x" * 5_000, "Unknown device"),
        ("Mozilla/5.0", "Unknown device"),
        ("", "Unknown device"),
    ],
)  # fmt: skip
def test_a_letter_names_a_device_in_words_of_ours(agent: str, label: str) -> None:
    assert device_label(agent) == label


def test_factors_of_allauths_records() -> None:
    records = [
        {"method": "password", "email": "a@b.c"}, {"method": "mfa", "type": "totp"}, {"method": "password"},
        {"method": "socialaccount", "provider": "google"}, {"method": "mfa", "type": "webauthn"}, {},
    ]  # fmt: skip
    assert factors_of(records) == ["password", "totp", "google", "webauthn", "None"]


def test_operators_list_and_sign_out() -> None:
    user, pair, client = signed_in()
    _, spare, elsewhere = signed_in(agent=SAFARI, factors=("password", "totp"))

    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("accounts", *arguments, stdout=out)
        return out.getvalue()

    listed = run("sessions", "--email", user.email).splitlines()
    assert [line.split()[0] for line in listed] == [str(spare.session_id), str(pair.session_id)]
    assert "192.0.2.7  password+totp  Mozilla/5.0 (iPhone" in listed[0]
    assert pair.refresh_token not in str(listed)
    assert run("sign-out", "--email", user.email, "--session", str(spare.session_id)) == "ended\n"
    problem(elsewhere.get(ME), 401, "invalid_access_token")
    assert client.get(ME).status_code == 200
    assert run("sign-out", "--email", user.email) == "1 ended\n"
    assert set(Session.objects.values_list("reason", flat=True)) == {"signed_out_by_operator"}
    assert run("sessions", "--email", user.email) == ""
    bob, _, _ = signed_in("bob@example.org")
    with pytest.raises(CommandError):
        run("sign-out", "--email", bob.email, "--session", str(pair.session_id))


def test_admin_looks_and_ends_but_changes_nothing() -> None:
    _, _pair, client = signed_in()
    operator = User.objects.create(email="op@example.org", is_staff=True, is_superuser=True)
    admin = Client()
    admin.force_login(operator)
    session = Session.objects.get()
    listing, page = (
        admin.get(reverse("admin:accounts_session_changelist")),
        admin.get(reverse("admin:accounts_session_change", args=[session.pk])),
    )
    assert (listing.status_code, page.status_code) == (200, 200)
    for answer in (listing, page):
        assert session.django_key not in answer.content.decode()
        assert session.password_stamp not in answer.content.decode()
        assert RefreshToken.objects.get().token_hash not in answer.content.decode()
    before = Session.objects.values().get()
    admin.post(
        reverse("admin:accounts_session_change", args=[session.pk]),
        {"user": str(operator.pk), "transport": "cookie", "reason": "signed_out"},
    )
    assert Session.objects.values().get() == before
    assert client.get(ME).status_code == 200
    action = {"action": "revoke", "_selected_action": [str(session.pk)]}
    assert admin.post(reverse("admin:accounts_session_changelist"), action).status_code == 302
    assert Session.objects.get().reason == "signed_out_by_operator"
    problem(client.get(ME), 401, "invalid_access_token")
