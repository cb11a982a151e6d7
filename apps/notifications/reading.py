"""The reader of events: from facts to mails, each fact once.

The place in the log moves in the transaction that queues the mails: killed anywhere, a fact is either told and passed
or neither. Mails have the key event:person:template besides, so that a log that is read again tells nothing twice.
"""

import logging
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Final
from uuid import UUID

import orjson
from django.db import connection, transaction

from apps.core import bulk, clock
from apps.core.failpoints import reach
from apps.core.ids import uuid7_many
from apps.core.models import Asset
from apps.events.selectors import EventCursor, LoggedEvent, events_after
from apps.mail.catalogue import template_get
from apps.mail.domain import address_check
from apps.mail.services import MessageDraft, messages_queue
from apps.notifications.letters import DIGESTED, LETTERS, Letter, Names
from apps.notifications.models import Reader, Untold
from apps.notifications.recipients import Recipient, recipients_read
from apps.plans.models import Plan

logger = logging.getLogger(__name__)

READER: Final = "mail"
CHUNK: Final = 1_000
# News of last week is no news: after a long outage nobody gets hundreds of mails.
STALE_AFTER: Final = timedelta(days=3)
# When digests of a day leave, in the person's zone.
DIGEST_AT: Final = time(8, 0)


def notifications_read(*, limit: int = CHUNK) -> int:
    """One chunk of the log; returns how many events were passed. One reader at a time: a second finds nothing to do."""
    with transaction.atomic():
        reader = Reader.objects.select_for_update(skip_locked=True).filter(name=READER).first()
        if reader is None:
            # Held by another reader; or not there, after somebody emptied the table.
            if not Reader.objects.filter(name=READER).exists():
                Reader.objects.bulk_create([Reader(name=READER)], ignore_conflicts=True)
            return 0
        events = events_after(EventCursor(reader.xid, reader.event_id), limit)
        if not events:
            return 0
        told = _tell(events)
        reach("notifications.read.before_move")
        last = events[-1].cursor
        reader.xid, reader.event_id, reader.moved_at = last.xid, last.id, clock.now()
        reader.save()
        reach("notifications.read.before_commit")
    if told:
        logger.info("events told", extra={"events": len(events), "mails": told})
    return len(events)


def _tell(events: Sequence[LoggedEvent]) -> int:
    """Queue what the events ask for: a fixed number of statements for any number of events."""
    oldest = clock.now() - STALE_AFTER
    worth = [
        event
        for event in events
        if event.subject_type == "person" and event.topic in LETTERS and event.occurred_at >= oldest
    ]
    if not worth:
        return 0
    people = recipients_read({event.subject_id for event in worth})
    names = _names(worth)
    mails: list[MessageDraft] = []
    gathered: list[tuple[LoggedEvent, Recipient, Letter]] = []
    untold: list[Untold] = []
    for event in worth:
        person = people.get(event.subject_id)
        if person is None:
            continue
        try:
            letter = LETTERS[event.topic](event, names, person.zone)
            address_check(person.email)
        except Exception as error:  # noqa: BLE001 — one bad fact must not stop everybody's mails
            untold.append(
                Untold(event_id=event.id, topic=event.topic, error=f"{type(error).__name__}: {error}"[:200])
            )
            continue
        if letter is None or template_get(letter.template).kind in person.muted:
            continue
        if person.digest and letter.template in DIGESTED:
            gathered.append((event, person, letter))
        else:
            mails.append(_draft(event, person, letter))
    _gather(gathered)
    if untold:
        Untold.objects.bulk_create(untold, ignore_conflicts=True)
        logger.error("events untold", extra={"events": [str(row.event_id) for row in untold[:20]]})
    return messages_queue(mails)


def _draft(event: LoggedEvent, person: Recipient, letter: Letter) -> MessageDraft:
    return MessageDraft(
        to=person.email,
        template=letter.template,
        key=f"{event.id}:{person.user_id}:{letter.template}",
        essential=not template_get(letter.template).kind,
        context=letter.context,
        language=person.language,
    )


def _names(events: Sequence[LoggedEvent]) -> Names:
    decimals = dict(Asset.objects.values_list("code", "decimals"))
    plans = {
        UUID(str(event.payload["plan_id"]))
        for event in events
        if "reason" in event.payload and "plan_id" in event.payload
    }
    assets = Plan.objects.filter(pk__any_of=list(plans)).values_list("pk", "market__sold_asset__code")
    return Names(decimals, dict(assets) if plans else {})


def _gather(found: Sequence[tuple[LoggedEvent, Recipient, Letter]]) -> None:
    """Put each into the digest of its day; two statements."""
    if not found:
        return
    days = [_day(event.occurred_at, person) for event, person, _ in found]
    digests = {(person.user_id, day): person for (_, person, _), day in zip(found, days, strict=True)}
    now, keys = clock.now(), sorted(digests)
    with connection.cursor() as cursor:
        # The update changes nothing: it makes the statement answer the ids of digests that were there already.
        cursor.execute(
            "INSERT INTO notifications_digest AS kept (id, user_id, day, state, run_after, created_at)"
            " SELECT d.id, d.user_id, d.day, 'open', d.run_after, %s"
            " FROM unnest(%s::uuid[], %s::uuid[], %s::date[], %s::timestamptz[]) AS d (id, user_id, day, run_after)"
            " ON CONFLICT (user_id, day) DO UPDATE SET state = kept.state"
            " RETURNING user_id, day, id, state",
            [
                now,
                bulk.uuids(uuid7_many(len(keys), now)),
                bulk.uuids(user_id for user_id, _ in keys),
                [day for _, day in keys],
                [_due(day, digests[user_id, day]) for user_id, day in keys],
            ],
        )
        rows = {(user_id, day): (pk, state) for user_id, day, pk, state in cursor.fetchall()}
    late: list[MessageDraft] = []
    entries = []
    for (event, person, letter), day in zip(found, days, strict=True):
        digest_id, state = rows[person.user_id, day]
        if state == "open":
            entries.append((event.id, digest_id, letter))
        else:  # the day's digest has left: better a mail of its own than none
            late.append(_draft(event, person, letter))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_digestentry (event_id, digest_id, template, context)"
            " SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::jsonb[]) ON CONFLICT (event_id) DO NOTHING",
            [
                bulk.uuids(pk for pk, _, _ in entries),
                bulk.uuids(digest_id for _, digest_id, _ in entries),
                bulk.array([letter.template for _, _, letter in entries]),
                [orjson.dumps(letter.context).decode() for _, _, letter in entries],
            ],
        )
    messages_queue(late)


def _day(occurred_at: datetime, person: Recipient) -> date:
    return occurred_at.astimezone(person.zone).date()


def _due(day: date, person: Recipient) -> datetime:
    return datetime.combine(day + timedelta(days=1), DIGEST_AT, tzinfo=person.zone)
