"""Preferences, and exports of all that is known about a person."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from apps.accounts.me.domain import MAIL_KINDS, ExportState
from apps.core import clock
from apps.core.ids import uuid7
from apps.core.models import WorkItem


class Preferences(models.Model):
    """Who never said anything has no row. `mails` names the kinds that are muted."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="preferences"
    )
    language = models.CharField(max_length=8, default="en", db_default="en")
    zone = models.CharField(max_length=64, default="UTC", db_default="UTC")
    mails = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    digest = models.BooleanField(default=False, db_default=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name_plural = "preferences"
        constraints = [
            models.CheckConstraint(
                condition=Q(mails__contained_by=list(MAIL_KINDS)), name="accounts_preferences_mails"
            )
        ]

    def __str__(self) -> str:
        return str(self.user_id)


class DataExport(WorkItem):
    """All of a person's data in one file. `run_after` is when it is to be made, then when it is to be deleted."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="exports")
    state = models.CharField(max_length=8, choices=ExportState.choices, default=ExportState.QUEUED)
    size_bytes = models.PositiveBigIntegerField(null=True, blank=True, editable=False)
    sha256 = models.CharField(max_length=64, blank=True, editable=False)
    rows = models.JSONField(default=dict, editable=False, help_text="How many of each section.")
    ready_at = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "data export"
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(state="queued"), name="accounts_export_one_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(state__in=ExportState.values)
                & (
                    ~Q(state="ready")
                    | Q(ready_at__isnull=False, expires_at__isnull=False, size_bytes__isnull=False)
                ),
                name="accounts_export_ready_has_file",
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(state__in=["queued", "ready"], buried_at__isnull=True),
                name="accounts_export_due",
            ),
            models.Index(fields=["user", "created_at", "id"], name="accounts_export_listing"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.state}"


class ExportPart(models.Model):
    """A piece of an export's file. `number` counts from 0."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    export = models.ForeignKey(DataExport, on_delete=models.CASCADE, related_name="parts", db_index=False)
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["export", "number"], name="accounts_export_part")]

    def __str__(self) -> str:
        return f"{self.export_id} {self.number}"
