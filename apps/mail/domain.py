"""What a message is, before any row: its states, why it was not sent, and which letters the house knows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.db import models

# `key` is event:person:template; longer ones are a mistake of the caller.
KEY_MAX_LENGTH = 200


class MessageState(models.TextChoices):
    """`queued` is essential (codes, security), `queued_bulk` the rest: it never stands before a code."""

    QUEUED = "queued", "To be sent"
    QUEUED_BULK = "queued_bulk", "To be sent, after what is essential"
    SENT = "sent", "Taken by the provider"
    SUPPRESSED = "suppressed", "Not sent, by rule"


class SuppressedFor(models.TextChoices):
    """Why a message was not sent. Stable and machine-readable."""

    ADDRESS = "address", "The address bounced, complained, or was blocked by hand"
    UNSUBSCRIBED = "unsubscribed", "The address does not want this kind of mail"
    EXPIRED = "expired", "What it says was no longer true when its turn came"


class SuppressionReason(models.TextChoices):
    BOUNCE = "bounce", "The address does not exist or refuses mail for good"
    COMPLAINT = "complaint", "The person marked a mail as spam"
    MANUAL = "manual", "Blocked by hand"


class ProviderEventKind(models.TextChoices):
    DELIVERED = "delivered"
    DELAYED = "delayed"
    BOUNCED = "bounced", "Bounced for good"
    COMPLAINED = "complained"
    OTHER = "other"


# What people may do without (`accounts.Preferences` holds who mutes which), with the words of the unsubscribe page.
KINDS: Final[Mapping[str, str]] = {
    "deposit_credited": "deposits that arrived",
    "buy_done": "buys that were made",
    "buy_skipped": "buys that were skipped",
    "plan_paused": "plans that were paused",
    "funds_low": "funds that run low",
    "withdrawal_steps": "the steps of withdrawals",
}
EVERYTHING: Final = "everything"


@dataclass(frozen=True)
class Template:
    """A letter: what it may hold that nobody else may read, and until when it is worth sending.

    `kind` is what it is muted by; empty for what is always sent. `secrets` are the values of a context that are
    encrypted at rest and blanked after sending. `lifetime` applies unless the context says `minutes` or `days`.
    `sample` is the made-up context of the gallery and the tests.
    """

    name: str
    title: str
    kind: str = ""
    secrets: frozenset[str] = frozenset()
    lifetime: timedelta | None = None
    sample: Mapping[str, Any] = field(default_factory=dict)

    def expires_in(self, context: Mapping[str, Any]) -> timedelta | None:
        """How long the message is worth sending; None for ever."""
        for unit in ("minutes", "days"):
            if self.lifetime is not None and isinstance(context.get(unit), int):
                return timedelta(**{unit: context[unit]})
        return self.lifetime


_ADDRESS = re.compile(r"[^@\s<>,;:\"]+@[^@\s<>,;:\"]+\.[^@\s<>,;:\"]+|[^@\s<>,;:\"]+@localhost")


def address_normalise(address: str) -> str:
    """The form in which addresses are compared: trimmed and lower case."""
    return address.strip().lower()


def address_check(address: str) -> str:
    """`address` when a mail can be sent to it; raises `ValueError` (never for what `accounts` took for an address)."""
    if len(address) > 254 or not _ADDRESS.fullmatch(address):
        raise ValueError("not an address that mail can be sent to")
    return address
