"""Sending through a real SMTP server: what arrives is whole, and what it refuses is sorted."""

from typing import Any

import pytest

from apps.mail.models import Message
from tests.mail.smtp import Server
from tests.mail.support import code_queue, deposit_queue, make_due, send_all, state_of

pytestmark = pytest.mark.django_db


def test_a_mail_arrives_in_both_forms_with_its_headers(server: Server) -> None:
    message = deposit_queue()

    send_all()

    (mail,) = server.mails
    assert (mail["To"], mail["Subject"]) == ("ann@example.com", "12.5 USDC arrived")
    assert mail["Message-ID"] == f"<{message.pk}@tranche.example>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail.get_body(("plain",)).get_content().startswith("12.5 USDC arrived")
    assert mail.get_body(("html",)).get_content().startswith("<!doctype html>")
    assert state_of(message) == "sent"


def test_refused_for_good_is_a_dead_letter_refused_for_now_waits_and_others_leave(server: Server) -> None:
    server.answers = {"no@example.com": "550 no such user", "later@example.com": "450 busy"}
    gone, later, good = (
        code_queue(f"e:{name}:code", f"{name}@example.com") for name in ("no", "later", "good")
    )

    send_all()

    rows = {row.pk: row for row in Message.objects.all()}
    assert rows[gone.pk].buried_at is not None
    assert rows[gone.pk].last_error == "the mail server said 550"
    assert (rows[later.pk].state, rows[later.pk].attempts, rows[later.pk].buried_at) == ("queued", 1, None)
    assert rows[good.pk].state == "sent"
    server.answers = {}
    make_due()
    send_all()
    assert state_of(later) == "sent"


def test_a_server_that_is_away_costs_one_try_and_loses_nothing(settings: Any) -> None:
    settings.MAIL_TRANSPORT = "smtp"
    settings.SMTP = {"host": "127.0.0.1", "port": 1}
    messages = [code_queue(f"e{n}:p:code", f"p{n}@example.com") for n in range(3)]

    send_all()

    rows = list(Message.objects.order_by("pk"))
    assert [row.attempts for row in rows] == [1, 0, 0]
    assert {row.state for row in rows} == {"queued"}
    assert rows[0].last_error == "the mail server cannot be reached: ConnectionRefusedError"
    assert {message.pk for message in messages} == {row.pk for row in rows}
