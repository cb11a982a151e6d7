"""Who signed up how, what came by mail, what was seen live: what people counted against what was written down."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.db import connection
from rich.console import Console

from apps.sandbox.demo.client import Person
from apps.sandbox.demo.live import Watch
from apps.sandbox.demo.report import Checks, table_make


def accounts_report(
    console: Console,
    people: Sequence[Person],
    watch: Watch,
    log: Sequence[dict[str, Any]],
    checks: Checks,
) -> None:
    """Accounts, mails and the live stream; `log` is what `GET /events` says to who watches."""
    _people_report(console, people, checks)
    _live_report(console, watch, log, checks)


def _people_report(console: Console, people: Sequence[Person], checks: Checks) -> None:
    table = table_make(
        "Accounts, made and used through the API", "Person", "Comes with", "Mails", "Codes", "Refreshes",
        "Step-ups", "App codes", "Recovery", "Waits",
    )  # fmt: skip
    for person in people:
        app = person.app
        app.mailbox.read()
        written = _messages(person.email)
        arrived = Counter(str(mail["Message-ID"]) for mail in app.mailbox.mails)
        counts = (
            len(app.mailbox.mails), app.mailbox.codes_read, app.refreshes, app.step_ups, app.app_codes,
            app.recovery_codes_used, app.waits,
        )  # fmt: skip
        table.add_row(person.name, app.comes_with, *(str(count) for count in counts))
        mailed = set(written.values()) == {"sent"} and {_local(one) for one in arrived} == written.keys()
        checks.add(
            mailed and set(arrived.values()) == {1},
            f"{person.name}: each of {len(written)} mails was sent, and arrived once",
        )
        checks.add(app.mailbox.codes_read == 1, f"{person.name} read the code of the sign-up in the mail")
        topics = _topics(person.email)
        made = topics["person.signed_up"] == topics["person.email_verified"] == 1
        checks.add(made, f"{person.name} signed up and proved the email, once")
        spent, reused = _refresh_tokens(person.email)
        checks.add(
            app.refreshes == spent > 0 and reused == 0,
            f"{person.name}: {spent} refresh tokens were used, each once",
        )
        if app.second_factor:
            asked = topics["withdrawal.awaiting_confirmation"]
            checks.add(
                0 < asked == topics["withdrawal.requested"] == topics["withdrawal.confirmed"],
                f"{person.name}: all {asked} withdrawals waited for the second factor",
            )
    console.print(table)


def _live_report(console: Console, watch: Watch, log: Sequence[dict[str, Any]], checks: Checks) -> None:
    name, live = watch.person.name, watch.live
    # Without what happened since the log was read.
    seen = [event for event in live.events if event["sequence"] <= len(log)]
    ids = [event["id_line"] for event in seen]
    shown = [{name: value for name, value in event.items() if name != "id_line"} for event in seen]
    sequences = [event["sequence"] for event in shown]
    whole = sequences == list(range(1, len(log) + 1)) and [str(number) for number in sequences] == ids
    ended = ", ".join(f"{count} ended as {reason}" for reason, count in sorted(live.ends.items()))
    console.print(
        f"{name} saw {len(seen)} events live over {live.connections} connections"
        f" ({live.cuts} cut on purpose{', ' + ended if ended else ''}),\n"
        f"{'without gap or repeat' if whole else 'NOT without gap or repeat'},"
        f" {'equal to' if shown == list(log) else 'OTHER than'} the {len(log)} of GET /api/v1/events.\n"
    )
    checks.add(whole, f"{name}'s live events are numbered 1 to {len(log)}, without gap or repeat")
    checks.add(shown == list(log), f"{name}'s live events are those of the log, to the letter")
    checks.add(live.resumed > 0, "the stream was cut on purpose, and resumed")


def _messages(email: str) -> dict[str, str]:
    """The states of all messages to an address, by id."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT id::text, state FROM mail_message WHERE "to" = %s', [email])
        return dict(cursor.fetchall())


def _local(message_id: str) -> str:
    """`id` of `<id@domain>`."""
    return message_id.strip("<>").partition("@")[0]


def _topics(email: str) -> Counter[str]:
    """How often what happened to a person."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT event.topic, count(*) FROM events_event AS event JOIN accounts_user AS person"
            " ON event.subject_type = 'person' AND event.subject_id = person.id WHERE person.email = %s GROUP BY 1",
            [email],
        )
        return Counter(dict(cursor.fetchall()))


def _refresh_tokens(email: str) -> tuple[int, int]:
    """How many of a person's were used, and how many sessions ended since one was used again."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(token.used_at), count(DISTINCT session.id) FILTER (WHERE session.reason = 'refresh_reuse')"
            " FROM accounts_session AS session JOIN accounts_user AS person ON person.id = session.user_id"
            " JOIN accounts_refreshtoken AS token ON token.session_id = session.id WHERE person.email = %s",
            [email],
        )
        used, reused = cursor.fetchone()
        return int(used), int(reused)
