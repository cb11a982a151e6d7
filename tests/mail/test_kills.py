"""A real process is killed at each place around handing a mail over; another goes on; one mail was sent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from apps.mail.models import Letter, Message
from tests.mail.resend import API_KEY, Resend
from tests.mail.support import deposit_queue, make_due

pytestmark = pytest.mark.django_db(transaction=True)

DRAIN = """
import django
django.setup()
from apps.core import work
from apps.mail import kinds
work.drain(kinds.SEND_BULK_WORK, budget_seconds=0)
"""


def drain_in_a_process(failpoint: str = "", **environment: str) -> int:
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "FAILPOINTS": f"{failpoint}=kill@1" if failpoint else "",
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        **environment,
    }
    root = Path(settings.BASE_DIR)
    return subprocess.run([sys.executable, "-c", DRAIN], env=environment, cwd=root, check=False).returncode


@pytest.mark.parametrize("place", ["work.mail.send_bulk.claimed", "mail.send.taken"])
def test_a_process_that_dies_while_handing_over_sends_one_mail(resend: Resend, place: str) -> None:
    message = deposit_queue()
    provider = {"MAIL_TRANSPORT": "resend", "RESEND_API_KEY": API_KEY, "RESEND_API_URL": resend.url}
    assert drain_in_a_process(place, **provider) == -9
    assert Message.objects.get().state == "queued_bulk"

    make_due()
    assert drain_in_a_process(**provider) == 0

    row = Message.objects.get()
    assert (row.pk, row.state, row.provider_id) == (message.pk, "sent", "resend-0")
    assert len(resend.sent) == 1
    assert len(resend.calls) == (2 if place == "mail.send.taken" else 1)


def test_the_database_transport_is_exactly_once() -> None:
    deposit_queue()
    assert drain_in_a_process("mail.send.before_commit", MAIL_TRANSPORT="database") == -9
    assert (Message.objects.get().state, Letter.objects.count()) == ("queued_bulk", 0)

    make_due()
    assert drain_in_a_process(MAIL_TRANSPORT="database") == 0

    assert (Message.objects.get().state, Letter.objects.count()) == ("sent", 1)
