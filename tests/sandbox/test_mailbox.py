"""The mailbox that the demo's people read, and the app that shows their codes."""

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import time_machine
from django.conf import settings

from apps.sandbox.authenticator import Authenticator, code_now
from apps.sandbox.mailbox import Mailbox, MailServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MailServer]:
    server = MailServer(tmp_path / "mail")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def send(server: MailServer, *, to: str, text: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "platform@example.com", to, "A mail"
    mail.set_content(text)
    mail.add_alternative(f"<p>{text}</p>", subtype="html")
    parts = urlsplit(server.url)
    with smtplib.SMTP(str(parts.hostname), parts.port or 0, timeout=10) as client:
        client.send_message(mail)


def test_each_reads_only_their_own_mails_and_each_mail_once(server: MailServer, tmp_path: Path) -> None:
    ada, bela = (Mailbox(tmp_path / "mail", f"{name}@example.com") for name in ("ada", "bela"))

    send(server, to="ada@example.com", text="Hello Ada")
    send(server, to="Bela@example.com", text="Hello Bela")

    assert [mail["To"] for mail in ada.read()] == ["ada@example.com"]
    assert [mail["To"] for mail in bela.read()] == ["Bela@example.com"]
    assert (ada.read(), len(ada.mails)) == ([], 1)


def test_the_code_is_that_of_a_mail_not_read_before(server: MailServer, tmp_path: Path) -> None:
    ada = Mailbox(tmp_path / "mail", "ada@example.com")
    send(server, to="ada@example.com", text="The year 202611 is no code.\n\n    402913\n\nGoodbye")

    assert ada.code() == "402913"

    send(server, to="ada@example.com", text="Another.\n\n    771204\n")
    assert ada.code() == "771204"
    assert ada.codes_read == 2


def test_the_app_shows_no_code_twice_and_only_good_ones() -> None:
    secret = "JBSWY3DPEHPK3PXP"
    with time_machine.travel("2026-11-21T12:00:10Z", tick=False) as clock:
        app = Authenticator(secret)

        # The period before, this one and the next are taken here (MFA_TOTP_TOLERANCE).
        assert settings.MFA_TOTP_TOLERANCE == 1
        assert [app.code() for _ in range(4)] == [
            *(code_now(secret, steps=step) for step in (-1, 0, 1)),
            None,
        ]

        clock.shift(30)
        assert (app.code(), app.code()) == (code_now(secret, steps=1), None)


def test_the_app_shows_none_that_is_over_when_it_arrives() -> None:
    secret = "JBSWY3DPEHPK3PXP"
    with time_machine.travel("2026-11-21T12:00:29Z", tick=False):
        assert Authenticator(secret).code() == code_now(secret)
