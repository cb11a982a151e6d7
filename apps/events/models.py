"""The append-only event log: facts that a customer may learn, in past tense, ordered per subject."""

from django.db import models

from apps.core import clock
from apps.core.ids import uuid7


class EventHead(models.Model):
    """The last sequence number given out for a subject; its row lock is what makes sequences gapless."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    subject_type = models.CharField(max_length=32)
    subject_id = models.UUIDField()
    sequence = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subject_type", "subject_id"], name="events_head_subject")
        ]

    def __str__(self) -> str:
        return f"{self.subject_type}:{self.subject_id}@{self.sequence}"


class Event(models.Model):
    """One fact. Written in the transaction of the change that it tells of; never changed, never deleted.

    Partitioned by month on `id` (UUIDv7). `sequence` counts 1, 2, 3 … per subject without gaps: a reader that
    has seen n asks for what comes after n.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    topic = models.CharField(max_length=64)
    subject_type = models.CharField(max_length=32)
    subject_id = models.UUIDField()
    sequence = models.BigIntegerField()
    object_type = models.CharField(max_length=32, blank=True)
    object_id = models.UUIDField(null=True)
    payload = models.JSONField(default=dict)
    occurred_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes = [
            models.Index(fields=["subject_type", "subject_id", "sequence"], name="events_event_subject"),
            models.Index(fields=["object_id", "id"], name="events_event_object"),
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.subject_id}#{self.sequence}"
