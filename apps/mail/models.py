"""Messages as work, what the provider said of them, and which addresses are written to no more."""

from typing import Any

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

from apps.core import clock
from apps.core.ids import uuid7
from apps.core.keys import encrypted_column
from apps.core.models import WorkItem
from apps.mail.domain import (
    KEY_MAX_LENGTH,
    MessageState,
    ProviderEventKind,
    SuppressedFor,
    SuppressionReason,
)

# One-time codes and the like, as JSON; empty once the message is sent or given up.
SECRET = encrypted_column("mail_message", "secret")
# What the database transport "sent": it may show a code, so it lies there like one.
LETTER = encrypted_column("mail_letter", "body")

_WAITING = [MessageState.QUEUED.value, MessageState.QUEUED_BULK.value]


class Message(WorkItem):
    """One mail to one address: queued in the transaction of what it tells of, sent by a worker.

    `key` is event:person:template: the same mail is queued once, however often its cause is read. After
    `MAIL_KEPT_DAYS` the address and the context are forgotten, and empty (`forgetting`).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=KEY_MAX_LENGTH, unique=True)
    to = models.CharField(max_length=254)
    template = models.CharField(max_length=64)
    language = models.CharField(max_length=8, default="en")
    essential = models.BooleanField()
    context: Any = models.JSONField(default=dict)
    secret = models.BinaryField(null=True, editable=False)
    state = models.CharField(max_length=16, choices=MessageState.choices, default=MessageState.QUEUED)
    suppressed_for = models.CharField(max_length=16, choices=SuppressedFor.choices, blank=True, default="")
    expires_at = models.DateTimeField(null=True, blank=True)
    provider_id = models.CharField(max_length=200, blank=True, default="")
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(state__in=MessageState.values), name="mail_message_state"),
            models.CheckConstraint(
                condition=Q(secret__isnull=True) | Q(state__in=_WAITING), name="mail_message_blanked"
            ),
            models.CheckConstraint(
                condition=Q(state="sent", sent_at__isnull=False)
                | (~Q(state="sent") & Q(sent_at__isnull=True)),
                name="mail_message_sent",
            ),
            models.CheckConstraint(
                condition=Q(state="suppressed", suppressed_for__in=SuppressedFor.values)
                | (~Q(state="suppressed") & Q(suppressed_for="")),
                name="mail_message_suppressed",
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(state="queued", buried_at__isnull=True),
                name="mail_message_due",
            ),
            models.Index(
                fields=["run_after", "id"],
                condition=Q(state="queued_bulk", buried_at__isnull=True),
                name="mail_message_due_bulk",
            ),
            models.Index(
                fields=["expires_at"], condition=Q(secret__isnull=False), name="mail_message_to_blank"
            ),
            models.Index(
                fields=["created_at"],
                condition=Q(state__in=["sent", "suppressed"]) & ~Q(to=""),
                name="mail_message_to_forget",
            ),
            models.Index(
                fields=["buried_at"], condition=Q(buried_at__isnull=False), name="mail_message_dead"
            ),
            models.Index(Lower("to"), F("created_at").desc(), name="mail_message_to"),
            models.Index(fields=["template", "-created_at"], name="mail_message_template"),
            models.Index(
                fields=["provider_id"], condition=~Q(provider_id=""), name="mail_message_provider_id"
            ),
            models.Index(fields=["-created_at", "-id"], name="mail_message_listing"),
        ]

    def __str__(self) -> str:
        return f"{self.template} {self.id}"


class Letter(models.Model):
    """A mail as the database transport "sent" it: for development, where the admin is the mailbox.

    `body` is the encrypted JSON of subject, text, html and headers.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    message = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="letter")
    to = models.CharField(max_length=254)
    body = models.BinaryField(editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        indexes = [models.Index(Lower("to"), F("created_at").desc(), name="mail_letter_to")]

    def __str__(self) -> str:
        return f"letter {self.id}"


class Suppression(models.Model):
    """An address that is written to no more, until somebody releases it. Released ones stay, as history.

    A bounce stops everything. A complaint stops what is not essential: codes and warnings still have to arrive.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    address = models.CharField(max_length=254)
    reason = models.CharField(max_length=16, choices=SuppressionReason.choices)
    detail = models.CharField(max_length=300, blank=True, default="")
    message = models.ForeignKey(
        Message, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    released_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["address", "reason"],
                condition=Q(released_at__isnull=True),
                name="mail_suppression_once",
            ),
            models.CheckConstraint(condition=Q(address=Lower("address")), name="mail_suppression_lower"),
        ]

    def __str__(self) -> str:
        return f"{self.address}: {self.reason}"


class Unsubscription(models.Model):
    """An address that does not want a kind of mail (`domain.KINDS`), by its own word, without a login."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    address = models.CharField(max_length=254)
    kind = models.CharField(max_length=32)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["address", "kind"], name="mail_unsubscription_once"),
            models.CheckConstraint(condition=Q(address=Lower("address")), name="mail_unsubscription_lower"),
        ]

    def __str__(self) -> str:
        return f"{self.address}: {self.kind}"


class ProviderEvent(models.Model):
    """What a provider's webhook said, once per event of theirs: the inbox that makes a repetition harmless."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.CharField(max_length=16)
    external_id = models.CharField(max_length=200)
    kind = models.CharField(max_length=16, choices=ProviderEventKind.choices)
    address = models.CharField(max_length=254, blank=True)
    message = models.ForeignKey(
        Message, null=True, blank=True, on_delete=models.SET_NULL, related_name="provider_events"
    )
    detail = models.CharField(max_length=300, blank=True, default="")
    received_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "external_id"], name="mail_providerevent_once")
        ]
        indexes = [models.Index(fields=["received_at"], name="mail_providerevent_received")]

    def __str__(self) -> str:
        return f"{self.provider} {self.kind} {self.external_id}"


class Pace(models.Model):
    """How many mails may leave now, for all workers together: a token bucket in one row."""

    name = models.CharField(max_length=16, primary_key=True)
    tokens = models.FloatField()
    filled_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
