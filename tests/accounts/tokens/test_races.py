"""The lock of a refresh: first the race with the lock off, then gone with it on."""

import threading
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from apps.accounts.models import RefreshToken, Session
from apps.accounts.tokens.caller import Caller
from apps.accounts.tokens.models import EndReason
from apps.accounts.tokens.services import RefreshInProgress, _pair_make, session_refresh, sessions_revoke
from apps.core import clock
from apps.core.errors import DomainError
from apps.events.models import Event
from tests.accounts.tokens.support import FIREFOX, signed_in
from tests.core.api.support import ApiClient, problem
from tests.plans.test_races import together

pytestmark = pytest.mark.django_db(transaction=True)
CALLER = Caller(FIREFOX, "192.0.2.7")


def test_without_the_lock_two_refreshes_both_succeed_in_reading_and_only_the_constraint_stops_one() -> None:
    _, _pair, _ = signed_in()
    both_read = threading.Barrier(2)

    def refresh_unlocked() -> None:
        with transaction.atomic():
            token = RefreshToken.objects.select_related("session__user").get()
            assert token.used_at is None
            both_read.wait()
            RefreshToken.objects.filter(pk=token.pk).update(used_at=clock.now())
            _pair_make(token.session, clock.now())

    raised = together(refresh_unlocked, refresh_unlocked)

    assert [type(error) for error in raised] == [IntegrityError]
    assert "accounts_refreshtoken_one_unused" in str(raised[0])
    # And without the constraint either, one token would have become two live ones: a thief's and its owner's.
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX accounts_refreshtoken_one_unused")
    try:
        RefreshToken.objects.exclude(used_at=None).delete()
        raised = together(refresh_unlocked, refresh_unlocked)
        assert raised == []
        assert RefreshToken.objects.filter(used_at=None).count() == 2
    finally:
        RefreshToken.objects.all().delete()
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE UNIQUE INDEX accounts_refreshtoken_one_unused ON accounts_refreshtoken (session_id)"
                " WHERE used_at IS NULL"
            )


def test_second_refresh_while_one_is_under_way_is_refused_and_ends_nothing() -> None:
    _, pair, _ = signed_in()
    under_way, done = threading.Event(), threading.Event()
    won: list[Any] = []

    def first() -> None:
        with transaction.atomic():
            won.append(session_refresh(text=pair.refresh_token, transport="body", caller=CALLER))
            under_way.set()
            assert done.wait(20)
        connection.close()

    thread = threading.Thread(target=first)
    thread.start()
    assert under_way.wait(10)
    response = ApiClient().post("/api/v1/auth/refresh", {"refresh_token": pair.refresh_token})
    done.set()
    thread.join(10)

    problem(response, 409, "refresh_in_progress", retryable=True)
    assert response["Retry-After"] == "1"
    assert Session.objects.get().revoked_at is None
    # What the winner got is good. What the loser has is used, and sent again it is a copy like any other.
    assert ApiClient(won[0].access_token).get("/api/v1/me").status_code == 200
    again = ApiClient().post("/api/v1/auth/refresh", {"refresh_token": pair.refresh_token})
    problem(again, 401, "invalid_refresh_token")
    assert Session.objects.get().reason == "refresh_reuse"


def test_of_many_refreshes_at_once_exactly_one_succeeds() -> None:
    for _ in range(5):
        _user, pair, _ = signed_in()
        start = threading.Barrier(6)
        outcomes: list[str] = []

        def refresh(text: str = pair.refresh_token, start: threading.Barrier = start) -> None:
            start.wait()
            try:
                session_refresh(text=text, transport="body", caller=CALLER)
                outcomes.append("refreshed")  # noqa: B023
            except RefreshInProgress:
                outcomes.append("in progress")  # noqa: B023
            except DomainError as error:
                outcomes.append(error.code)  # noqa: B023

        assert together(*[refresh] * 6) == []
        counted = Counter(outcomes)
        assert counted["refreshed"] == 1, counted
        assert counted["refreshed"] + counted["in progress"] + counted["invalid_refresh_token"] == 6
        session = Session.objects.get(pk=pair.session_id)
        assert (session.reason == "refresh_reuse") is (counted["invalid_refresh_token"] > 0)
        assert RefreshToken.objects.filter(session=session, used_at=None).count() == 1
        told = Event.objects.filter(topic="session.revoked", object_id=session.pk).count()
        assert told == (1 if session.revoked_at else 0)


def test_sign_out_beside_a_refresh_leaves_nothing_that_works() -> None:
    user, pair, _ = signed_in()
    for _ in range(5):
        gained: list[Any] = []
        start = threading.Barrier(2)
        Session.objects.update(revoked_at=None, reason="")
        RefreshToken.objects.all().delete()
        with transaction.atomic():
            pair = _pair_make(Session.objects.get(), clock.now())

        def refresh(text: str = pair.refresh_token, start: threading.Barrier = start) -> None:
            start.wait()
            with suppress(DomainError):
                gained.append(session_refresh(text=text, transport="body", caller=CALLER))  # noqa: B023

        def sign_out(start: threading.Barrier = start) -> None:
            start.wait()
            sessions_revoke(user_id=user.pk, reason=EndReason.SIGNED_OUT)

        assert together(refresh, sign_out) == []
        assert Session.objects.get().reason == "signed_out"
        for one in gained:
            problem(ApiClient(one.access_token).get("/api/v1/me"), 401, "invalid_access_token")
            with pytest.raises(DomainError):
                session_refresh(text=one.refresh_token, transport="body", caller=CALLER)


def test_row_that_somebody_holds_does_not_block_a_request() -> None:
    _, _, client = signed_in()
    Session.objects.update(last_used_at=clock.now() - timedelta(hours=1))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Session.objects.select_for_update().get()
            held.set()
            done.wait(20)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '500ms'")
    response = client.get("/api/v1/me")
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")
    done.set()
    thread.join(10)
    assert response.status_code == 200
