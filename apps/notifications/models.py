"""How far the log has been read, what is being gathered for a digest, and who was told that funds run low."""

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from apps.core import clock
from apps.core.ids import uuid7
from apps.core.models import Asset, WorkItem
from apps.events.selectors import NIL


class Reader(models.Model):
    """A reader's place in the event log: it moves in the transaction of what the reader made of the events."""

    name = models.CharField(max_length=32, primary_key=True)
    xid = models.BigIntegerField(default=0)
    event_id = models.UUIDField(default=NIL)
    moved_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"{self.name}@{self.xid}"


class Untold(models.Model):
    """An event that no mail could be made of: shown to operators, and passed, so that it does not stop the others."""

    event_id = models.UUIDField(primary_key=True)
    topic = models.CharField(max_length=64)
    error = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name_plural = "untold"

    def __str__(self) -> str:
        return f"{self.topic} {self.event_id}"


class DigestState(models.TextChoices):
    OPEN = "open", "Gathering"
    SENT = "sent", "Handed to mail"


class Digest(WorkItem):
    """What one person is told of one of their days, in one mail, the next morning of their zone (`run_after`)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    day = models.DateField(help_text="In the person's zone.")
    state = models.CharField(max_length=8, choices=DigestState.choices, default=DigestState.OPEN)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "day"], name="notifications_digest_once"),
            models.CheckConstraint(
                condition=Q(state__in=DigestState.values), name="notifications_digest_state"
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(state="open", buried_at__isnull=True),
                name="notifications_digest_due",
            )
        ]

    def __str__(self) -> str:
        return f"digest of {self.day}"


class DigestEntry(models.Model):
    """One event in a digest, as the context that its own mail would have had."""

    event_id = models.UUIDField(primary_key=True)
    digest = models.ForeignKey(Digest, on_delete=models.CASCADE, related_name="entries")
    template = models.CharField(max_length=64)
    context: Any = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.template} {self.event_id}"


class FundsNotice(models.Model):
    """Somebody was told that an asset runs low. Gone when it does not any more, so that the next time is told again."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    asset = models.ForeignKey(Asset, on_delete=models.CASCADE, related_name="+")
    told_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "asset"], name="notifications_fundsnotice_once")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.asset_id}"


class FundsCheck(models.Model):
    """How far today's look at everybody's funds has come: the last person looked at, in id order."""

    day = models.DateField(primary_key=True)
    last_owner_id = models.UUIDField(default=NIL)
    done_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return str(self.day)
