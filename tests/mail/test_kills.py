"""A real process is killed at each place around handing a mail over; another goes on; one mail was sent."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from apps.mail.models import Letter, Message
from tests.mail.resend import API_KEY, Resend
from tests.mail.smtp import Server
from tests.mail.support import deposit_queue, make_due, send_all

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(400)]

DRAIN = """
import django
django.setup()
from apps.core import work
from apps.mail import kinds
work.drain(kinds.SEND_BULK_WORK, budget_seconds=0)
"""


def drain_in_a_process(failpoint: str = "", **environment: str) -> int:
    """`failpoint` is a name and the pass that kills: `mail.send.taken@3`."""
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    name, _, number = failpoint.partition("@")
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "FAILPOINTS": f"{name}=kill@{number or 1}" if failpoint else "",
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        **environment,
    }
    root = Path(settings.BASE_DIR)
    return subprocess.run([sys.executable, "-c", DRAIN], env=environment, cwd=root, check=False).returncode


@pytest.mark.parametrize(
    ("place", "noted", "in_doubt"),
    [
        ("work.mail.send_bulk.claimed", 0, 0),
        # Windows of one, two and four are on their way before the third pass at most.
        ("mail.send.taken@3", None, 7),
        ("mail.send.before_commit@3", None, 15),
        ("mail.send.noted@2", None, 7),
    ],
)
def test_a_process_that_dies_while_handing_over_sends_each_mail_once(
    resend: Resend, tmp_path: Path, place: str, noted: int | None, in_doubt: int
) -> None:
    """Whatever was on its way or taken and not noted is handed over again with its key, and the same bytes."""
    for number in range(24):
        deposit_queue(f"e{number}:p:d", f"p{number}@example.com")
    provider = {"MAIL_TRANSPORT": "resend", "RESEND_API_KEY": API_KEY, "RESEND_API_URL": resend.url}
    assert drain_in_a_process(place, SANDBOX_DIR=str(tmp_path), **provider) == -9
    before = set(Message.objects.filter(state="sent").values_list("pk", flat=True))
    assert noted is None or len(before) == noted
    assert {str(pk) for pk in before} <= set(resend.sent)
    assert len(resend.sent) - len(before) <= in_doubt
    assert len(before) < 24

    make_due()
    send_all()

    rows = Message.objects.all()
    assert {row.state for row in rows} == {"sent"}
    assert {str(row.pk): row.provider_id for row in rows} == {
        key: mail["id"] for key, mail in resend.sent.items()
    }
    keys = [key for key, _ in resend.calls]
    assert not [key for key in keys if keys.count(key) > 2]
    assert not {str(pk) for pk in before} & {key for key in keys if keys.count(key) > 1}


def test_over_smtp_at_most_two_mails_come_twice_with_the_same_id(
    server: Server, settings: Any, tmp_path: Path
) -> None:
    for number in range(8):
        deposit_queue(f"e{number}:p:d", f"p{number}@example.com")
    url = "smtp://{host}:{port}".format(**settings.SMTP)
    died = drain_in_a_process(
        "mail.send.before_commit@3", SANDBOX_DIR=str(tmp_path), MAIL_TRANSPORT="smtp", SMTP_URL=url
    )
    assert died == -9
    assert Message.objects.filter(state="sent").count() == 2

    make_due()
    send_all()

    assert set(Message.objects.values_list("state", flat=True)) == {"sent"}
    ids = Counter(mail["Message-ID"] for mail in server.mails)
    assert set(ids) == {f"<{pk}@tranche.example>" for pk in Message.objects.values_list("pk", flat=True)}
    assert max(ids.values()) == 2
    assert 1 <= sum(times - 1 for times in ids.values()) <= 2


def test_the_database_transport_is_exactly_once(tmp_path: Path) -> None:
    deposit_queue()
    died = drain_in_a_process("mail.send.before_commit", MAIL_TRANSPORT="database", SANDBOX_DIR=str(tmp_path))
    assert died == -9
    assert (Message.objects.get().state, Letter.objects.count()) == ("queued_bulk", 0)

    make_due()
    send_all()

    assert (Message.objects.get().state, Letter.objects.count()) == ("sent", 1)
