"""The step of a message: from queued to sent, or to suppressed by rule.

Delivery is at least once. Between the provider's word and our commit a process may die; then the mail is handed over
again with the same key: Resend takes it for the same mail (for 24 hours; our tries end long before), an SMTP server
does not, and the person may get it twice with the same Message-ID. The database transport is exactly once, since there
the letter and the state commit together. Never is a mail marked as sent that nobody took.
"""

import logging
import time
from collections.abc import Sequence
from email.utils import parseaddr
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connection

from apps.core import bulk, clock
from apps.core.errors import Terminal
from apps.core.failpoints import reach
from apps.core.ids import uuid7_many
from apps.core.work import STEPPED, Claim
from apps.mail import client
from apps.mail.catalogue import template_get
from apps.mail.domain import EVERYTHING, MessageState, SuppressedFor, SuppressionReason, address_normalise
from apps.mail.models import LETTER, SECRET, Letter, Message, Suppression, Unsubscription
from apps.mail.pace import pace_take
from apps.mail.rendering import render
from apps.mail.unsubscribing import unsubscribe_url

logger = logging.getLogger(__name__)

_WAITING = (MessageState.QUEUED, MessageState.QUEUED_BULK)
# No new mail is handed over in the second half of a lease: the first is for the slowest provider that we wait for.
_PART_OF_LEASE = 0.4
_AWAY_SECONDS = 5.0


def messages_send(claim: Claim[Message]) -> None:
    """One chunk: screen, pace, render, hand over, note. A failing mail fails alone; a failing provider stops all."""
    until = time.monotonic() + claim.work.lease_seconds * settings.LEASE_SCALE * _PART_OF_LEASE
    with claim.locked() as held:
        rows = _screen(claim, [row for row in held if row.state in _WAITING])
    allowed = pace_take(len(rows), essential=all(row.essential for row in rows))
    now, later = rows[:allowed], rows[allowed:]
    if later:
        _wait(claim, later, len(later) / max(float(settings.MAIL_PER_SECOND), 0.1))
    if settings.MAIL_TRANSPORT == "database":
        _keep(claim, _rendered(claim, now))
    else:
        _hand_over(claim, _rendered(claim, now), until=until)


def _screen(claim: Claim[Message], rows: list[Message]) -> list[Message]:
    """Inside the claim's transaction: suppress what must not leave, in three queries; answers the others."""
    addresses = {address_normalise(row.to) for row in rows}
    blocked: dict[str, set[str]] = {}
    for address, why in Suppression.objects.filter(
        address__in=addresses, released_at__isnull=True
    ).values_list("address", "reason"):
        blocked.setdefault(address, set()).add(why)
    unwanted = set(Unsubscription.objects.filter(address__in=addresses).values_list("address", "kind"))
    now, found, left = clock.now(), [], []
    for row in rows:
        reason = _suppressed_for(row, blocked.get(address_normalise(row.to), set()), unwanted)
        if reason is None and row.expires_at is not None and row.expires_at <= now:
            reason = SuppressedFor.EXPIRED
        if reason is None:
            left.append(row)
        else:
            found.append((row.pk, reason.value))
    bulk.update(
        "mail_message",
        [pk for pk, _ in found],
        {"suppressed_for": ("text", [reason for _, reason in found])},
        constants={"state": MessageState.SUPPRESSED.value, "secret": None},
        also=STEPPED,
    )
    claim.stepped.update(pk for pk, _ in found)
    return left


def _suppressed_for(row: Message, reasons: set[str], unwanted: set[tuple[str, str]]) -> SuppressedFor | None:
    # A code or a warning still goes to somebody who called a digest spam.
    stopping = reasons - {SuppressionReason.COMPLAINT.value} if row.essential else reasons
    if stopping:
        return SuppressedFor.ADDRESS
    if not row.essential:
        address, kind = address_normalise(row.to), template_get(row.template).kind
        if {(address, kind), (address, EVERYTHING)} & unwanted:
            return SuppressedFor.UNSUBSCRIBED
    return None


def _rendered(claim: Claim[Message], rows: Sequence[Message]) -> list[tuple[Message, client.Outgoing]]:
    """What can be rendered; the others fail alone."""
    found = []
    for row in rows:
        try:
            mail: client.Outgoing | None = outgoing(row)
        except Exception as error:  # noqa: BLE001 — one bad mail must not stop the others
            mail, said = None, type(error).__name__
        if mail is None:
            # Raised anew: the error of a template or a key may hang on to what it was about.
            claim.fail([row.pk], Terminal(f"cannot be rendered: {said}"))
        else:
            found.append((row, mail))
    return found


def outgoing(row: Message) -> client.Outgoing:
    """The mail of a message, the same at each try. Raises what rendering and decrypting raise."""
    context = dict(row.context)
    if row.secret is not None:
        context |= orjson.loads(SECRET.decrypt(bytes(row.secret), pk=row.pk))
    url = "" if row.essential else unsubscribe_url(row.pk)
    rendered = render(template=row.template, context=context, language=row.language, unsubscribe_url=url)
    domain = parseaddr(settings.MAIL_FROM)[1].rpartition("@")[2]
    headers = {"Message-ID": f"<{row.pk}@{domain}>"}
    if url:
        headers |= {"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    else:
        headers |= {"Auto-Submitted": "auto-generated"}
    return client.Outgoing(str(row.pk), row.to, rendered.subject, rendered.text, rendered.html, headers)


def _keep(claim: Claim[Message], mails: Sequence[tuple[Message, client.Outgoing]]) -> None:
    """The database transport: letters and states in one transaction."""
    by_id = {row.pk: mail for row, mail in mails}
    with claim.locked(list(by_id)) as held:
        ids = [row.pk for row in held]
        letters = uuid7_many(len(ids))
        Letter.objects.bulk_create(
            Letter(pk=pk, message_id=row.pk, to=row.to, body=_body(pk, by_id[row.pk]))
            for pk, row in zip(letters, held, strict=True)
        )
        _sent(claim, ids, [str(pk) for pk in letters])
        reach("mail.send.before_commit", ids)


def _body(pk: UUID, mail: client.Outgoing) -> bytes:
    whole = {"subject": mail.subject, "text": mail.text, "html": mail.html, "headers": mail.headers}
    return LETTER.encrypt(orjson.dumps(whole), pk=pk)


def _hand_over(
    claim: Claim[Message], mails: Sequence[tuple[Message, client.Outgoing]], *, until: float
) -> None:
    """One connection, one mail after the other; each is noted as soon as it was taken."""
    if not mails:
        return
    try:
        with client.provider_open() as provider:
            for number, (row, mail) in enumerate(mails):
                if time.monotonic() > until:
                    _wait(claim, [row for row, _ in mails[number:]], 0.0)
                    return
                answer = provider.send(mail)
                reach("mail.send.taken", [row.pk])
                if isinstance(answer, client.Away):
                    _stop(claim, answer, [row for row, _ in mails[number:]])
                    return
                if isinstance(answer, Exception):
                    claim.fail([row.pk], answer)
                    continue
                with claim.locked([row.pk]) as held:
                    _sent(claim, [one.pk for one in held], [answer] * len(held))
    except client.Away as away:
        failure = away
    else:
        return
    _stop(claim, failure, [row for row, _ in mails])


def _stop(claim: Claim[Message], away: client.Away, rows: Sequence[Message]) -> None:
    """The provider is away: the first mail's try counts, the others only wait."""
    claim.fail([rows[0].pk], away)
    _wait(claim, rows[1:], away.after_seconds or _AWAY_SECONDS)


def _wait(claim: Claim[Message], rows: Sequence[Message], seconds: float) -> None:
    if rows:
        with claim.locked([row.pk for row in rows]) as held:
            claim.wait([row.pk for row in held], seconds=seconds)


def _sent(claim: Claim[Message], ids: Sequence[UUID], provider_ids: Sequence[str]) -> None:
    """Inside `claim.locked()`: these are with the provider. Their secrets are blanked in the same statement."""
    bulk.update(
        "mail_message",
        ids,
        {"provider_id": ("text", [text[:200] for text in provider_ids])},
        constants={"state": MessageState.SENT.value, "sent_at": clock.now(), "secret": None},
        also=STEPPED,
    )
    claim.stepped.update(ids)


def secrets_blank() -> int:
    """Blank what is past its time in messages that were not sent; returns how many. Buried ones stay to be seen."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE mail_message SET secret = NULL, updated_at = now()"
            " WHERE secret IS NOT NULL AND expires_at <= %s"
            " AND (leased_until IS NULL OR leased_until < clock_timestamp())",
            [clock.now()],
        )
        return int(cursor.rowcount)
