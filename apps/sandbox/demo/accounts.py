"""How people come to their accounts: each by their own doing at the API, with the code that came by mail."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection

from apps.sandbox.demo.app import App
from apps.sandbox.demo.client import Person
from apps.sandbox.demo.journey import Journey
from apps.sandbox.demo.live import Watch
from apps.sandbox.demo.scenario import PersonSpec, SignsInBy
from apps.sandbox.mailbox import Mailbox

# Longer than an access token lasts, and much longer than signing in counts as a step-up.
_LATER = timedelta(minutes=16)
_KEY_SCOPES = (
    "plans:read", "plans:write", "deposits:read", "balances:read", "withdrawals:read", "withdrawals:write",
)  # fmt: skip


def people_sign_up(
    journey: Journey, specs: Sequence[PersonSpec], *, url: str, mail_dir: Path
) -> list[Person]:
    """Everybody signs up; then each goes on as they mean to use the API, a quarter of an hour later."""
    people = []
    for spec in specs:
        app = App(
            url=url,
            email=spec.email,
            password=secrets.token_urlsafe(12),
            mailbox=Mailbox(mail_dir, spec.email),
        )
        app.sign_up()
        people.append(Person(name=spec.name, app=app))
    journey.travel_by(_LATER)
    for person, spec in zip(people, specs, strict=True):
        if spec.signs_in_by is SignsInBy.KEY:
            person.app.key_make(name="my script", scopes=_KEY_SCOPES)
        else:
            person.app.factor_add()
            person.app.sign_out()
            person.app.sign_in()
    return people


def everything_told(journey: Journey, watch: Watch) -> list[dict[str, Any]]:
    """Wait until all mails have left and the live stream has shown everything; what the log says to who watches."""
    journey.wait(_mails_sent, what="the last mails", bells=["notifications.read"], mine=False)
    log = watch.person.events()
    journey.wait(lambda: watch.live.has(len(log)), what=f"event {len(log)} live", mine=False)
    return log


def _mails_sent() -> bool:
    """Whether no event is unread and no message unsent."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT NOT EXISTS (SELECT FROM events_event AS event JOIN notifications_reader AS reader"
            "  ON (event.xid, event.id) > (reader.xid::text::xid8, reader.event_id) WHERE reader.name = 'mail')"
            " AND NOT EXISTS (SELECT FROM mail_message WHERE state IN ('queued', 'queued_bulk'))"
        )
        return bool(cursor.fetchone()[0])
