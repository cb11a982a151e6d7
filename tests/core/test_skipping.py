"""Rows that another transaction holds are left for the next time; without `SKIP LOCKED` everybody waits for it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.sessions.models import Session as DjangoSession
from django.db import OperationalError, connection, transaction

from apps.accounts.audit import audit_record
from apps.accounts.audit.sealing import records_seal
from apps.accounts.models import ApiKey, RefreshToken, Session, User
from apps.accounts.services import api_key_create, api_key_touch
from apps.accounts.signin.counts import MARKS
from apps.accounts.signin.models import SignInMark
from apps.accounts.signin.services import signin_purge
from apps.accounts.tokens.services import session_touch, sessions_purge
from apps.core import clock, work
from apps.core.api.idempotency import idempotency_keys_purge
from apps.core.api.limits import rate_windows_purge
from apps.core.ids import uuid7
from apps.core.models import IdempotencyKey, RateWindow, WorkProbe
from apps.events.services import EventDraft, events_publish
from apps.mail.forgetting import mail_forget
from apps.mail.models import Message, ProviderEvent
from apps.notifications import funds
from apps.notifications.models import FundsCheck
from apps.notifications.reading import notifications_read
from tests.accounts.tokens.support import signed_in
from tests.mail.support import code_queue, deposit_queue
from tests.support.races import beside, off_and_on

pytestmark = pytest.mark.django_db(transaction=True)
YEARS = timedelta(days=1_000)


@dataclass(frozen=True)
class Case:
    """`make` writes rows of `table` that `job` would take; `answer` is what it answers when it may not."""

    make: Callable[[], Any]
    job: Callable[[], Any]
    table: str
    answer: Any = 0


def old() -> Any:
    return clock.now() - YEARS


def idempotency_key() -> None:
    IdempotencyKey.objects.create(
        principal="p", method="POST", route="/", key="k", fingerprint="f", expires_at=old()
    )


def rate_window() -> None:
    RateWindow.objects.create(key="k", hits=[old()])


def mark() -> None:
    SignInMark.objects.create(key="other", value=1, expires_at=old())


def django_session() -> None:
    DjangoSession.objects.create(session_key="k", session_data="", expire_date=old())


def access_attempt() -> None:
    attempt = AccessAttempt.objects.create(get_data="", post_data="", failures_since_start=1)
    AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=old())


def refresh_token() -> None:
    signed_in()
    RefreshToken.objects.update(issued_at=old(), expires_at=old())


def ended_session() -> None:
    signed_in()
    RefreshToken.objects.all().delete()
    Session.objects.update(revoked_at=old(), reason="signed_out")


def used_session() -> None:
    signed_in()
    Session.objects.update(last_used_at=old())


def used_key() -> None:
    user = User.objects.create(email="ann@example.org")
    api_key_create(user_id=user.pk, name="one", scopes=["plans:read"])


def dead_message() -> None:
    code_queue()
    Message.objects.update(buried_at=old())


def sent_message() -> None:
    deposit_queue()
    Message.objects.update(state="sent", sent_at=old(), created_at=old())


def provider_event() -> None:
    ProviderEvent.objects.create(provider="resend", external_id="1", kind="delivered", received_at=old())


def lost_item() -> None:
    WorkProbe.objects.create(
        run_after=old(), attempts=PROBE.max_attempts, lease_token=uuid7(), leased_until=old()
    )


PROBE = work.Work("test.probe", WorkProbe, ("open",), advance=lambda _: None)
CASES = {
    "idempotency keys": Case(idempotency_key, idempotency_keys_purge, "core_idempotencykey"),
    "rate windows": Case(rate_window, rate_windows_purge, "core_ratewindow"),
    "marks": Case(mark, signin_purge, "accounts_signinmark"),
    "marks beside a write": Case(mark, lambda: MARKS.set("mine", 1, 60), "accounts_signinmark", answer=None),
    "sessions of Django": Case(django_session, signin_purge, "django_session"),
    "attempts": Case(access_attempt, signin_purge, "axes_accessattempt"),
    "refresh tokens": Case(refresh_token, sessions_purge, "accounts_refreshtoken"),
    "sessions": Case(ended_session, sessions_purge, "accounts_session"),
    "a session's last use": Case(
        used_session, lambda: session_touch(session=Session.objects.get()), "accounts_session", answer=None
    ),
    "a key's last use": Case(
        used_key, lambda: api_key_touch(api_key=ApiKey.objects.get()), "accounts_apikey", answer=None
    ),
    "dead mails": Case(dead_message, mail_forget, "mail_message"),
    "sent mails": Case(sent_message, mail_forget, "mail_message"),
    "events of providers": Case(provider_event, mail_forget, "mail_providerevent"),
    "items whose worker was lost": Case(
        lost_item, lambda: work.claim_due(PROBE).ids, "core_workprobe", answer=[]
    ),
}


@off_and_on
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_held_rows_are_left_for_the_next_time(case: Case, locked: bool) -> None:
    case.make()

    def hold() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT FROM {case.table} FOR UPDATE")

    answer = beside(hold, case.job, lock=rf"\b{case.table}\b.* SKIP LOCKED", locked=locked)

    if locked:
        assert answer == case.answer
    else:
        assert isinstance(answer, OperationalError)
        assert "lock timeout" in str(answer)


def event() -> None:
    notifications_read()
    user = User.objects.create(email="ann@example.com")
    payload = {"reason": "look", "actor": "op"}
    with transaction.atomic():
        events_publish([EventDraft("person.frozen", "person", user.pk, payload)])


def funds_due() -> None:
    FundsCheck.objects.create(day=clock.now().date())


def record() -> None:
    with transaction.atomic():
        audit_record(
            actor="test", action="thing.made", target_type="thing", target_id="1", before=None, after={"a": 1}
        )


READERS = {
    "of events": (event, notifications_read, "notifications_reader"),
    "of funds": (funds_due, funds.funds_check, "notifications_fundscheck"),
    "of records": (record, records_seal, "pg_try_advisory_xact_lock"),
}


@off_and_on
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_of_two_readers_at_once_one_reads(
    reader: tuple[Callable[[], Any], Callable[[], Any], str],
    time_travel: Callable[..., int],
    locked: bool,
) -> None:
    make, read, lock = reader
    now = clock.now()
    time_travel(to=now.replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=1))
    make()

    answer = beside(read, read, lock=lock, locked=locked)

    if locked:
        assert not answer
    else:
        assert isinstance(answer, OperationalError)
