"""A provider to send through, and what the tests queue."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.mail.resend import API_KEY, Resend, resend_run
from tests.mail.smtp import Server, server_run


@pytest.fixture
def resend(settings: Any) -> Iterator[Resend]:
    """The platform sends through a stand-in of Resend."""
    with resend_run() as state:
        settings.MAIL_TRANSPORT = "resend"
        settings.RESEND_API_KEY = API_KEY
        settings.RESEND_API_URL = state.url
        yield state


@pytest.fixture
def server(settings: Any) -> Iterator[Server]:
    """The platform sends to an SMTP server."""
    with server_run() as (handler, port):
        settings.MAIL_TRANSPORT = "smtp"
        settings.SMTP = {
            "host": "127.0.0.1", "port": port, "username": "", "password": "", "use_tls": False, "use_ssl": False,
        }  # fmt: skip
        yield handler
