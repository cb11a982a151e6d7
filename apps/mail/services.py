"""Writes: queueing messages, and which addresses are written to no more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, transaction

from apps.core import clock, doorbell
from apps.core.ids import uuid7_many
from apps.mail.catalogue import template_get
from apps.mail.domain import KEY_MAX_LENGTH, MessageState, address_check
from apps.mail.models import SECRET, Message

SEND, SEND_BULK = "mail.send", "mail.send_bulk"


@dataclass(frozen=True)
class MessageDraft:
    """A message to be queued; `context` is JSON. See `message_queue`."""

    to: str
    template: str
    key: str
    essential: bool
    context: Mapping[str, Any] = field(default_factory=dict)
    language: str = "en"


def message_queue(
    *,
    to: str,
    template: str,
    context: dict[str, Any],
    key: str,
    essential: bool,
    language: str = "en",
) -> Message:
    """Queue a mail in the caller's transaction; a worker sends it after the commit.

    `key` is event:person:template: asked again with the same key, the answer is the first message and nothing is
    queued. `essential` mails are sent first, have no unsubscribe link and cannot be unsubscribed from.
    Raises `ValueError` for an unknown template, something that is no address, or an empty or too long key.
    """
    messages_queue([MessageDraft(to, template, key, essential, context, language)])
    return Message.objects.get(key=key)


def messages_queue(drafts: Sequence[MessageDraft]) -> int:
    """Queue many at once, in one statement; returns how many were new. Raises like `message_queue`."""
    if not drafts:
        return 0
    now = clock.now()
    ids = uuid7_many(len(drafts), now)
    rows = [_row(pk, draft) for pk, draft in zip(ids, drafts, strict=True)]
    names = ("id", "key", "to", "template", "language", "essential", "state", "context", "secret", "lifetime")
    kinds = ("uuid", "text", "text", "text", "text", "boolean", "text", "jsonb", "bytea", "interval")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            'INSERT INTO mail_message (id, key, "to", template, language, essential, state, context, secret,'
            " suppressed_for, provider_id, expires_at, run_after, created_at)"
            ' SELECT d.id, d.key, d."to", d.template, d.language, d.essential, d.state, d.context, d.secret,'
            " '', '', %s::timestamptz + d.lifetime, %s, %s"
            f" FROM unnest({', '.join(f'%s::{kind}[]' for kind in kinds)})"
            f" AS d ({', '.join(_quoted(names))}) ON CONFLICT (key) DO NOTHING",
            [now, now, now, *([row[number] for row in rows] for number in range(len(names)))],
        )
        queued = cursor.rowcount
        for bell in {SEND if draft.essential else SEND_BULK for draft in drafts}:
            doorbell.ring(bell)
    return int(queued)


def _row(pk: UUID, draft: MessageDraft) -> tuple[Any, ...]:
    template = template_get(draft.template)
    if not 0 < len(draft.key) <= KEY_MAX_LENGTH:
        raise ValueError("the key of a message is empty or too long")
    secret = {name: draft.context[name] for name in template.secrets if name in draft.context}
    plain = {name: value for name, value in draft.context.items() if name not in secret}
    lifetime: timedelta | None = template.expires_in(draft.context)
    return (
        pk,
        draft.key,
        address_check(draft.to.strip()),
        draft.template,
        draft.language,
        draft.essential,
        (MessageState.QUEUED if draft.essential else MessageState.QUEUED_BULK).value,
        orjson.dumps(plain).decode(),
        SECRET.encrypt(orjson.dumps(secret), pk=pk) if secret else None,
        lifetime,
    )


def _quoted(names: Sequence[str]) -> list[str]:
    return [f'"{name}"' for name in names]
