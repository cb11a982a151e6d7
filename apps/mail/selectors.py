"""Reads: the mailbox of the database transport, and what is suppressed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from apps.mail.domain import address_normalise
from apps.mail.models import LETTER, Letter, Suppression


@dataclass(frozen=True)
class ReceivedLetter:
    """A mail as the database transport keeps it, decrypted."""

    id: UUID
    to: str
    template: str
    subject: str
    text: str
    html: str
    headers: Mapping[str, str]
    created_at: datetime


def letters_received(*, to: str, limit: int = 20) -> list[ReceivedLetter]:
    """The newest letters to an address, the newest first. Only the database transport keeps letters."""
    rows = (
        Letter.objects.filter(to__iexact=to).select_related("message").order_by("-created_at", "-id")[:limit]
    )
    return [letter_open(row) for row in rows]


def letter_open(row: Letter) -> ReceivedLetter:
    """Raises `DecryptionError` in a process without the key."""
    body: dict[str, Any] = orjson.loads(LETTER.decrypt(bytes(row.body), pk=row.pk))
    return ReceivedLetter(
        row.pk,
        row.to,
        row.message.template,
        body["subject"],
        body["text"],
        body["html"],
        body["headers"],
        row.created_at,
    )


def suppressed(address: str) -> list[Suppression]:
    """Why an address is not written to; empty when it is."""
    return list(
        Suppression.objects.filter(address=address_normalise(address), released_at__isnull=True).order_by(
            "created_at"
        )
    )
