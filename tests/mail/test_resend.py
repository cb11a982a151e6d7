"""Sending through Resend's API: one mail per message, whatever answers or dies in between."""

import logging
from time import monotonic
from typing import Any

import pytest

from apps.core import clock, work
from apps.mail import client, kinds
from apps.mail.models import Message
from tests.mail.resend import Resend
from tests.mail.support import code_queue, deposit_queue, make_due, send_all, state_of

pytestmark = pytest.mark.django_db


def test_a_mail_goes_out_whole(resend: Resend) -> None:
    message = deposit_queue()

    send_all()

    ((key, body),) = resend.calls
    assert key == str(message.pk)
    assert body["to"] == ["ann@example.com"]
    assert body["from"] == "Tranche <hello@tranche.example>"
    assert body["subject"] == "12.5 USDC arrived"
    assert "12.5 USDC" in body["text"]
    assert body["html"].startswith("<!doctype html>")
    url = body["headers"]["List-Unsubscribe"].strip("<>")
    assert body["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert url.startswith("http://127.0.0.1:8000/mail/unsubscribe/")
    assert url in body["html"]
    assert url in body["text"]
    row = Message.objects.get()
    assert (row.state, row.provider_id) == ("sent", "resend-0")


def test_what_is_essential_has_no_unsubscribe_link(resend: Resend) -> None:
    code_queue()

    send_all()

    ((_, body),) = resend.calls
    assert "List-Unsubscribe" not in body["headers"]
    assert "unsubscribe" not in body["html"] + body["text"]


def test_a_kill_between_taken_and_committed_sends_once(resend: Resend) -> None:
    """The provider has it, we do not know: the next try brings the same key and the same body."""
    message = deposit_queue()
    resend.take_then_hang_up = 1
    send_all()
    assert state_of(message) == "queued_bulk"
    assert len(resend.sent) == 1

    make_due()
    send_all()

    assert state_of(message) == "sent"
    assert len(resend.calls) == 2
    assert resend.calls[0] == resend.calls[1]
    assert len(resend.sent) == 1


def test_a_broken_provider_loses_nothing_and_counts_one_try(resend: Resend) -> None:
    messages = [deposit_queue(f"e{n}:p:d", f"p{n}@example.com") for n in range(3)]
    resend.answers = [(503, {}, {})]

    send_all()

    rows = list(Message.objects.order_by("pk"))
    assert len(resend.calls) == 1
    assert [(row.state, row.attempts) for row in rows] == [
        ("queued_bulk", 1),
        ("queued_bulk", 0),
        ("queued_bulk", 0),
    ]
    assert rows[0].last_error == "the provider said 503"
    make_due()
    send_all()
    assert {state_of(message) for message in messages} == {"sent"}
    assert len(resend.sent) == 3


def test_a_mail_that_breaks_the_provider_each_time_has_its_tries_and_the_others_leave(resend: Resend) -> None:
    resend.broken = {"p0@example.com", "p3@example.com"}
    messages = [deposit_queue(f"e{n}:p:d", f"p{n}@example.com") for n in range(6)]

    send_all()
    # The first one came first, and was taken for a provider that is away.
    assert len(resend.calls) == 1
    make_due()
    send_all()

    # Now it came last; and one mail alone is not taken for the provider.
    rows = list(Message.objects.order_by("pk"))
    assert [row.state for row in rows] == ["queued_bulk", "sent", "sent", "queued_bulk", "sent", "sent"]
    assert [row.attempts for row in rows] == [2, 0, 0, 1, 0, 0]
    assert not [row for row in rows if row.buried_at is not None]
    resend.broken = set()
    make_due()
    send_all()
    assert {state_of(message) for message in messages} == {"sent"}
    assert len(resend.sent) == 6


def test_a_slow_answer_holds_nobody_back(resend: Resend) -> None:
    """The second mail is answered when all others were taken: waiting for it would be waiting for ever."""
    resend.held, resend.release_after = {"p1@example.com"}, 11
    for number in range(12):
        deposit_queue(f"e{number}:p:d", f"p{number}@example.com")

    send_all()

    assert resend.release.is_set()
    assert [body["to"] for _, body in resend.calls][-1] == ["p1@example.com"]
    assert set(Message.objects.values_list("state", "attempts")) == {("sent", 0)}


def test_an_answer_that_does_not_come_is_in_doubt_and_the_others_leave(
    resend: Resend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_TIMEOUTS", (5.0, 3.0))
    resend.held = {"p1@example.com"}
    messages = [deposit_queue(f"e{n}:p:d", f"p{n}@example.com") for n in range(6)]

    send_all()

    assert [state_of(message) for message in messages] == [
        "sent",
        "queued_bulk",
        "sent",
        "sent",
        "sent",
        "sent",
    ]
    row = Message.objects.get(state="queued_bulk")
    assert (row.attempts, row.last_error) == (1, "the provider cannot be reached: ReadTimeout")
    resend.release.set()
    make_due()
    send_all()
    assert len(resend.sent) == 6
    assert state_of(messages[1]) == "sent"


def test_a_provider_that_refuses_connections_costs_one_try_and_loses_nothing(
    resend: Resend, settings: Any
) -> None:
    messages = [deposit_queue(f"e{n}:p:d", f"p{n}@example.com") for n in range(3)]
    url, settings.RESEND_API_URL = settings.RESEND_API_URL, "http://127.0.0.1:1/"

    send_all()

    rows = list(Message.objects.order_by("pk"))
    assert [row.attempts for row in rows] == [1, 0, 0]
    assert rows[0].last_error == "the provider cannot be reached: ConnectionError"
    settings.RESEND_API_URL = url
    make_due()
    send_all()
    assert {state_of(message) for message in messages} == {"sent"}


def test_a_limit_that_is_met_half_way_stops_all_and_loses_nothing(resend: Resend) -> None:
    messages = [deposit_queue(f"e{n}:p:d", f"p{n}@example.com") for n in range(40)]
    resend.limited_after = 10

    send_all()

    rows = list(Message.objects.filter(state="queued_bulk"))
    assert len(rows) == 30
    assert {str(row.pk) for row in Message.objects.filter(state="sent")} == set(resend.sent)
    # One try for all: the others were only asked to wait, as long as the provider said.
    assert sorted(row.attempts for row in rows) == [0] * 29 + [1]
    assert all((row.run_after - row.created_at).total_seconds() > 29 for row in rows)
    assert len(resend.calls) < 10 + 16
    resend.limited_after = None
    make_due()
    send_all()
    assert {state_of(message) for message in messages} == {"sent"}
    assert len(resend.sent) == 40


def test_who_wants_us_back_at_once_does_not_use_up_the_tries(resend: Resend) -> None:
    """Forty times a second of waiting would be less than a minute until a dead letter."""
    message = deposit_queue()
    for _ in range(6):
        resend.answers = [(429, {}, {"Retry-After": "1"})]
        make_due()
        asked = clock.now()
        send_all()

    row = Message.objects.get(pk=message.pk)
    assert row.attempts == 6
    assert (row.run_after - asked).total_seconds() >= 2 * 2**5 * 0.5


def test_being_asked_to_slow_down_is_obeyed(resend: Resend) -> None:
    messages = [deposit_queue(f"e{n}:p:d", f"p{n}@example.com") for n in range(2)]
    resend.answers = [(429, {"name": "rate_limit_exceeded"}, {"Retry-After": "30"})]

    send_all()

    waits = [(row.run_after - row.created_at).total_seconds() for row in Message.objects.order_by("pk")]
    assert all(29 < wait < 60 for wait in waits)
    assert {state_of(message) for message in messages} == {"queued_bulk"}


def test_one_refused_mail_is_a_dead_letter_and_the_others_leave(
    resend: Resend, caplog: pytest.LogCaptureFixture
) -> None:
    resend.refused = {"bad@example.com"}
    bad = code_queue("e1:bad:code", "bad@example.com")
    good = code_queue("e2:good:code", "good@example.com")

    with caplog.at_level(logging.DEBUG):
        send_all()

    assert state_of(good) == "sent"
    row = Message.objects.get(pk=bad.pk)
    assert row.buried_at is not None
    assert row.last_error == "the provider said 422 validation_error"
    assert [item.pk for _, item in work.dead_letters(name="mail.send")] == [bad.pk]
    assert len(resend.calls) == 2
    assert "739154" not in caplog.text + str([vars(record) for record in caplog.records])


def test_the_rate_holds_and_leaves_room_for_what_is_essential(resend: Resend, settings: object) -> None:
    settings.MAIL_PER_SECOND = 4  # type: ignore[attr-defined]
    for n in range(20):
        deposit_queue(f"e{n}:p:d", f"p{n}@example.com")
        code_queue(f"e{n}:p:code", f"p{n}@example.com")

    started = monotonic()
    work.drain(kinds.SEND_BULK_WORK)
    bulk = len(resend.calls)
    work.drain(kinds.SEND_WORK)
    refilled = int(4 * (monotonic() - started))

    # The bucket holds two seconds' worth, a quarter of which is for codes; and what came into it meanwhile.
    assert bulk == 6
    assert 8 <= len(resend.calls) <= 8 + refilled
    assert Message.objects.filter(attempts__gt=0).count() == 0
