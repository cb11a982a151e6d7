"""The step of a message: from queued to sent, or to suppressed by rule.

Delivery is at least once. Between the provider's word and our commit a process may die; then what it had on its way or
not yet noted is handed over again with the same keys: Resend takes it for the same mails (for 24 hours; our tries end
long before). An SMTP server does not: of the mails of that process at most two (one on its way, one being noted) may
come twice, with the same Message-ID. The database transport is exactly once, since there the letter and the state
commit together. Never is a mail marked as sent that nobody took.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from email.utils import parseaddr
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connection

from apps.core import bulk, clock
from apps.core.errors import Terminal
from apps.core.failpoints import reach
from apps.core.ids import uuid7_many
from apps.core.work import STEPPED, Claim, backoff
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
        _hand_over(claim, now, until=until)


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


def _hand_over(claim: Claim[Message], rows: Sequence[Message], *, until: float) -> None:
    """Those that failed before go last: a mail that the provider cannot stomach has the others ahead of it."""
    if not rows:
        return
    passing = _HandOver(claim, deque(sorted(rows, key=lambda row: row.attempts)))
    try:
        with client.provider_open() as provider:
            passing.run(provider, until=until)
    except client.Away as failure:
        passing.refused(failure)
    away = passing.away
    _wait(claim, passing.waiting, (away.after_seconds or _AWAY_SECONDS) if away else 0.0)


@dataclass
class _HandOver:
    """Several mails on their way at once. What was taken is noted while the next ones travel: as much in one commit
    as came together, and never more in doubt than two windows.

    One mail goes first, and with each that is answered one more may be on its way. So a provider that is away is asked
    once; and one that works, but not for this mail, goes on with the others, one at a time at first.
    """

    claim: Claim[Message]
    waiting: deque[Message]
    window: int = 1
    works: bool = False
    away: client.Away | None = None

    def run(self, provider: client.Provider, *, until: float) -> None:
        flight: dict[Future[str | Exception], Message] = {}
        taken: dict[UUID, str] = {}
        failed: list[tuple[UUID, Exception]] = []
        while True:
            while self._may_go(len(flight), provider.at_once) and time.monotonic() < until:
                for row, mail in _rendered(self.claim, [self.waiting.popleft()]):
                    flight[provider.send(mail)] = row
            self._note(taken, failed)
            if not flight:
                return
            done, _ = wait(flight, return_when=FIRST_COMPLETED)
            answers = [(flight.pop(one), one.result()) for one in done]
            reach("mail.send.taken", [row.pk for row, _ in answers])
            taken = {row.pk: answer for row, answer in answers if isinstance(answer, str)}
            failed = [found for row, answer in answers if (found := self._judged(row, answer))]

    def refused(self, failure: client.Away) -> None:
        """There is no connection to be had: the first mail's try counts."""
        found = self._judged(self.waiting.popleft(), failure)
        self._note({}, [found] if found else [])

    def _may_go(self, flying: int, at_once: int) -> bool:
        return bool(self.waiting) and self.away is None and flying < min(self.window, at_once)

    def _judged(self, row: Message, answer: str | Exception) -> tuple[UUID, Exception] | None:
        """The failure of this mail, if it is one; a mail that meets a provider who is away already only waits."""
        if not isinstance(answer, client.Away):
            self.works, self.window = True, self.window + 1
            return (row.pk, answer) if isinstance(answer, Exception) else None
        if self.away is not None:
            self.waiting.append(row)
            return None
        if answer.certain or not self.works:
            self.away = answer
        self.works, self.window = False, 1
        # Whoever wants us to come back soon does not use up a mail's tries the sooner.
        pause = max(answer.after_seconds or 0.0, backoff(self.claim.work, row.attempts))
        return row.pk, client.Away(str(answer), after_seconds=pause)

    def _note(self, taken: dict[UUID, str], failed: Sequence[tuple[UUID, Exception]]) -> None:
        if taken:
            with self.claim.locked(list(taken)) as held:
                _sent(self.claim, [row.pk for row in held], [taken[row.pk] for row in held])
                reach("mail.send.before_commit", taken)
            reach("mail.send.noted", taken)
        for pk, error in failed:
            self.claim.fail([pk], error)


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
