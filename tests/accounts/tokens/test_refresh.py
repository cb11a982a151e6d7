"""Refreshing: each token is good once, a copy that turns up ends the session, and browsers need more than a cookie."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session as DjangoSession
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings

from apps.accounts.models import RefreshToken, Session
from apps.accounts.tokens.domain import refresh_token_make
from apps.core import clock
from apps.events.models import Event
from tests.accounts.tokens.support import FIREFOX, signed_in
from tests.core.api.support import ApiClient, problem

pytestmark = pytest.mark.django_db
ME, REFRESH = "/api/v1/me", "/api/v1/auth/refresh"


def refresh(token: str | None = None, client: ApiClient | None = None, **headers: str) -> Any:
    body = {} if token is None else {"refresh_token": token}
    return (client or ApiClient()).post(REFRESH, body, **{"user_agent": FIREFOX, **headers})


def ours(queries: CaptureQueriesContext) -> list[str]:
    """The statements on people's and sessions' tables; the limit of sign-in paths counts in one of its own."""
    return [query["sql"].split()[0] for query in queries if '"accounts_' in query["sql"]]


def snapshot() -> list[Any]:
    return [
        list(rows.order_by("pk").values_list())
        for rows in (Session.objects, RefreshToken.objects, Event.objects)
    ]


def test_refresh_gives_the_next_pair_and_uses_the_token_up() -> None:
    _, pair, old = signed_in()
    response = refresh(pair.refresh_token)
    assert response.status_code == 200, response.content
    body = response.json()
    assert list(body) == [
        "access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in", "csrf_token", "session_id",
    ]  # fmt: skip
    assert (body["token_type"], body["expires_in"], body["csrf_token"]) == ("Bearer", 900, None)
    assert body["refresh_expires_in"] == 30 * 86_400
    assert body["session_id"] == str(pair.session_id)
    assert response["Cache-Control"] == "no-store"
    assert response.cookies == {}
    assert ApiClient(body["access_token"]).get(ME).status_code == 200
    assert old.get(ME).status_code == 200, "the access token before lives out its minutes"
    first, second = RefreshToken.objects.order_by("issued_at")
    assert first.used_at is not None
    assert second.used_at is None
    assert refresh(body["refresh_token"]).status_code == 200


def test_only_hashes_are_kept() -> None:
    _, pair, _ = signed_in()
    body = refresh(pair.refresh_token).json()
    with connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT json_agg(s)::text FROM accounts_session s) || (SELECT json_agg(t)::text"
                       " FROM accounts_refreshtoken t) || (SELECT json_agg(e)::text FROM events_event e)")  # fmt: skip
        kept = cursor.fetchone()[0]
    for token in (pair.refresh_token, body["refresh_token"], pair.access_token, body["access_token"]):
        assert token not in kept
        assert token.removeprefix("trr_") not in kept


def test_used_token_ends_the_session_for_all_who_hold_it() -> None:
    user, pair, client = signed_in()
    _, spare, elsewhere = signed_in()
    stolen = pair.refresh_token
    mine = refresh(stolen).json()
    assert DjangoSession.objects.count() == 2

    problem(refresh(stolen), 401, "invalid_refresh_token", errors=[])

    session = Session.objects.get(pk=pair.session_id)
    assert session.reason == "refresh_reuse"
    problem(refresh(mine["refresh_token"]), 401, "invalid_refresh_token")
    problem(ApiClient(mine["access_token"]).get(ME), 401, "invalid_access_token")
    problem(client.get(ME), 401, "invalid_access_token")
    assert DjangoSession.objects.count() == 1, "nor can the sign-in be gone on with"
    # Other sign-ins of the person go on.
    assert elsewhere.get(ME).status_code == 200
    assert refresh(spare.refresh_token).status_code == 200
    event = Event.objects.get(topic="session.revoked")
    assert (event.subject_id, event.object_id) == (user.pk, pair.session_id)
    assert event.payload["reason"] == "refresh_reuse"


def test_replay_is_told_of_once() -> None:
    _, pair, _ = signed_in()
    refresh(pair.refresh_token)
    for _ in range(3):
        problem(refresh(pair.refresh_token), 401, "invalid_refresh_token")
    assert Event.objects.filter(topic="session.revoked").count() == 1


def test_replay_of_any_link_of_the_chain_ends_it() -> None:
    _, pair, _ = signed_in()
    token = pair.refresh_token
    for _ in range(4):
        token = refresh(token).json()["refresh_token"]
    problem(refresh(pair.refresh_token, user_agent="curl/8"), 401, "invalid_refresh_token")
    problem(refresh(token), 401, "invalid_refresh_token")
    assert Session.objects.get().reason == "refresh_reuse"


@pytest.mark.parametrize(
    "token", ["", "x", "trr_", "trr_" + "a" * 42, "trr_" + "a" * 44, "trn_" + "a" * 43, "\u00fc"]
)
def test_text_that_is_no_token(token: str) -> None:
    signed_in()
    before = snapshot()
    with CaptureQueriesContext(connection) as queries:
        response = refresh(token)
    if token:
        problem(response, 401, "invalid_refresh_token")
    else:
        problem(response, 400, "validation_failed", errors=[("/refresh_token", "blank")])
    assert ours(queries) == []
    assert snapshot() == before


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"refresh_token": None}, [("/refresh_token", "null")]),
        ({"refresh_token": 5}, [("/refresh_token", "invalid")]),
        ({"refresh_token": ["x"]}, [("/refresh_token", "invalid")]),
        ({"refresh_token": "t" * 201}, [("/refresh_token", "max_length")]),
        ({"token": "x"}, [("/token", "unknown_field")]),
        ({"session_id": "x", "expires_in": 9}, [("/expires_in", "unknown_field"), ("/session_id", "unknown_field")]),
        ([], [("", "invalid")]),
    ],
)  # fmt: skip
def test_bad_body(body: Any, errors: list[tuple[str, str]]) -> None:
    problem(ApiClient().post(REFRESH, body), 400, "validation_failed", errors=errors)


def test_every_dead_token_gets_the_same_answer_and_nothing_changes() -> None:
    user, pair, _ = signed_in()
    session, token = Session.objects.filter(pk=pair.session_id), RefreshToken.objects.filter()
    answers = [refresh(refresh_token_make(), x_request_id="same-request")]

    def dead(rows: Any, **values: Any) -> None:
        before = rows.values(*values).get()
        rows.update(**values)
        state = snapshot()
        answers.append(refresh(pair.refresh_token, x_request_id="same-request"))
        assert snapshot() == state
        rows.update(**before)

    dead(token, expires_at=clock.now())
    dead(session, revoked_at=clock.now(), reason="signed_out")
    dead(session, created_at=clock.now() - timedelta(days=90), expires_at=clock.now())
    dead(session, password_stamp="0" * 64)
    dead(type(user).objects.filter(pk=user.pk), is_active=False)
    dead(session, transport="cookie")
    for answer in answers:
        problem(answer, 401, "invalid_refresh_token")
    assert len({answer.content for answer in answers}) == 1
    assert refresh(pair.refresh_token).status_code == 200


def test_session_ends_after_ninety_days_however_often_it_is_refreshed() -> None:
    _, pair, _ = signed_in()
    Session.objects.update(
        created_at=clock.now() - timedelta(days=89), expires_at=clock.now() + timedelta(hours=1)
    )
    body = refresh(pair.refresh_token).json()
    assert 3_590 < body["refresh_expires_in"] <= 3_600


def test_refresh_notes_address_and_device() -> None:
    _, pair, _ = signed_in(address="198.51.100.9")
    refresh(pair.refresh_token)
    session = Session.objects.get()
    assert (session.address, session.device) == ("127.0.0.1", FIREFOX)


def test_refresh_is_four_statements() -> None:
    _, pair, _ = signed_in()
    with CaptureQueriesContext(connection) as queries:
        assert refresh(pair.refresh_token).status_code == 200
    assert ours(queries) == ["SELECT", "UPDATE", "UPDATE", "INSERT"], "locked; used; session noted; next link"


# ---------------------------------------------------------------- cookies


def browser(**options: Any) -> tuple[Any, ApiClient, str]:
    """A browser whose cookies a refresh has set: its session, itself, and the CSRF token that its page knows."""
    _, pair, _ = signed_in(transport="cookie", **options)
    client = ApiClient()
    from apps.accounts.tokens.api.answers import tokens_answer

    answer = tokens_answer(pair)
    client.client.cookies.update(answer.cookies)
    return pair, client, answer.data["csrf_token"]


def test_cookie_refresh_shows_no_refresh_token() -> None:
    pair, client, csrf = browser()
    response = refresh(client=client, x_csrf_token=csrf)
    assert response.status_code == 200, response.content
    body = response.json()
    assert body["refresh_token"] is None
    token = response.cookies["tranche_refresh"].value
    assert token.startswith("trr_")
    assert token not in response.content.decode()
    assert token != pair.refresh_token
    assert body["csrf_token"] == response.cookies["tranche_refresh_csrf"].value != csrf
    # The cookie that came is the one that goes.
    assert refresh(client=client, x_csrf_token=body["csrf_token"]).status_code == 200


def test_cookies_are_as_the_settings_say() -> None:
    _pair, client, csrf = browser()
    with override_settings(REFRESH_COOKIE_SECURE=True, REFRESH_COOKIE_DOMAIN="example.org",
                           REFRESH_COOKIE_PATH="/tokens", REFRESH_COOKIE_SAMESITE="None"):  # fmt: skip
        response = refresh(client=client, x_csrf_token=csrf)
    kept, shown = response.cookies["tranche_refresh"], response.cookies["tranche_refresh_csrf"]
    assert (kept["httponly"], kept["secure"], kept["samesite"]) == (True, True, "None")
    assert (kept["domain"], kept["path"], kept["max-age"]) == ("example.org", "/tokens", 30 * 86_400)
    assert (shown["httponly"], shown["secure"], shown["samesite"]) == ("", True, "None")
    assert (shown["domain"], shown["path"]) == ("example.org", "/")


def test_cookie_of_the_defaults_is_strict_and_goes_to_the_sign_in_paths_alone() -> None:
    _, client, csrf = browser()
    kept = refresh(client=client, x_csrf_token=csrf).cookies["tranche_refresh"]
    assert (kept["httponly"], kept["samesite"], kept["path"], kept["domain"]) == (
        True,
        "Strict",
        "/api/v1/auth",
        "",
    )


@pytest.mark.parametrize(
    "sent", [{}, {"x_csrf_token": ""}, {"x_csrf_token": "0" * 64}, {"x_csrf_token": "\u00fc"}]
)
def test_cookie_without_the_header_of_its_page_is_refused_and_changes_nothing(sent: dict[str, str]) -> None:
    _, client, csrf = browser()
    before = snapshot()
    problem(refresh(client=client, **sent), 403, "csrf_failed", errors=[])
    assert snapshot() == before
    assert refresh(client=client, x_csrf_token=csrf).status_code == 200


def test_csrf_token_of_another_session_does_not_do() -> None:
    _, _, foreign = browser(email="eve@example.org")
    _, client, _ = browser()
    # Not even with the foreign CSRF cookie planted: the header must belong to the refresh cookie.
    client.client.cookies["tranche_refresh_csrf"] = foreign
    problem(refresh(client=client, x_csrf_token=foreign), 403, "csrf_failed")


def test_token_of_a_cookie_is_refused_in_a_body_and_the_other_way_round() -> None:
    """A script that could have the cookie's token written into a body would have what the cookie keeps from it."""
    by_cookie, client, csrf = browser()
    before = snapshot()
    problem(refresh(by_cookie.refresh_token), 401, "invalid_refresh_token")
    problem(refresh(by_cookie.refresh_token, x_token_transport="body"), 401, "invalid_refresh_token")
    assert snapshot() == before
    response = refresh(client=client, x_csrf_token=csrf, x_token_transport="body")
    assert response.json()["refresh_token"] is None

    _, by_body, _ = signed_in("bob@example.org")
    from apps.accounts.tokens.domain import csrf_token

    client = ApiClient()
    client.client.cookies["tranche_refresh"] = by_body.refresh_token
    right = csrf_token(by_body.refresh_token, key=settings.SECRET_KEY.encode())
    problem(refresh(client=client, x_csrf_token=right), 401, "invalid_refresh_token")


def test_replay_by_cookie_ends_the_session() -> None:
    pair, client, csrf = browser()
    stolen = dict(client.client.cookies)
    fresh = refresh(client=client, x_csrf_token=csrf).json()
    thief = ApiClient()
    for name, morsel in stolen.items():
        thief.client.cookies[name] = morsel.value
    problem(refresh(client=thief, x_csrf_token=csrf), 401, "invalid_refresh_token")
    assert Session.objects.get(pk=pair.session_id).reason == "refresh_reuse"
    problem(refresh(client=client, x_csrf_token=fresh["csrf_token"]), 401, "invalid_refresh_token")


def test_neither_body_nor_cookie() -> None:
    bodies: list[Any] = [None, {}]
    for body in bodies:
        document = problem(ApiClient().post(REFRESH, body), 401, "invalid_refresh_token")
        assert "cookie" in document["detail"]


def test_refresh_wants_no_access_token_and_looks_at_none() -> None:
    _, pair, _ = signed_in()
    assert refresh(pair.refresh_token, authorization="Bearer nonsense").status_code == 200


def test_page_of_an_allowed_origin_may_send_the_cookie() -> None:
    with override_settings(CORS_ALLOWED_ORIGINS=["https://app.example.org"]):
        headers = {
            "origin": "https://app.example.org", "access_control_request_method": "POST",
            "access_control_request_headers": "x-csrf-token,x-token-transport,x-session-token",
        }  # fmt: skip
        preflight = ApiClient().send("OPTIONS", REFRESH, headers=headers)
        assert preflight["Access-Control-Allow-Credentials"] == "true"
        assert {"x-csrf-token", "x-token-transport", "x-session-token"} <= set(
            preflight["Access-Control-Allow-Headers"].split(", ")
        )
        foreign = ApiClient().send(
            "OPTIONS", REFRESH, headers={**headers, "origin": "https://evil.example.org"}
        )
        assert "Access-Control-Allow-Origin" not in foreign
        assert "Access-Control-Allow-Credentials" not in foreign


def test_secrets_stay_out_of_events() -> None:
    _, pair, _ = signed_in()
    refresh(pair.refresh_token)
    refresh(pair.refresh_token)
    said = json.dumps(list(Event.objects.values_list("payload", flat=True)))
    assert pair.refresh_token not in said
