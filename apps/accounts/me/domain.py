"""What a person may choose about mails, and the states of an export. Pure values."""

from dataclasses import dataclass, field
from typing import Final

from django.db import models

# Mails that a person may do without. Codes, new devices, changes of password, factors or keys are always sent.
MAIL_KINDS: Final = (
    "deposit_credited",
    "buy_done",
    "buy_skipped",
    "plan_paused",
    "funds_low",
    "withdrawal_steps",
)


@dataclass(frozen=True, slots=True)
class PreferencesRead:
    """How somebody wants to be told things; these defaults hold for whoever never said."""

    language: str = "en"
    zone: str = "UTC"
    muted: frozenset[str] = field(default_factory=frozenset)
    # One mail a day about buys instead of one each.
    digest: bool = False


class ExportState(models.TextChoices):
    QUEUED = "queued", "Being put together"
    READY = "ready", "Can be downloaded"
    DELETED = "deleted", "The file is gone"
