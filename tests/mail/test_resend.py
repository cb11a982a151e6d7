"""Sending through Resend's API: one mail per message, whatever answers or dies in between."""

import logging

import pytest

from apps.core import work
from apps.mail import kinds
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

    work.drain(kinds.SEND_BULK_WORK)
    bulk = len(resend.calls)
    work.drain(kinds.SEND_WORK)

    # The bucket holds two seconds' worth, a quarter of which is for codes; the drains took a fraction of a second.
    assert bulk == 6
    assert 8 <= len(resend.calls) <= 12
    assert Message.objects.filter(attempts__gt=0).count() == 0
