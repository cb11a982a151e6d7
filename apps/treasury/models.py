"""Pauses: what is not bought or paid out just now, who or what stopped it, and why."""

from django.db import models
from django.db.models import Q

from apps.core import clock
from apps.core.ids import uuid7
from apps.core.models import Asset


class Activity(models.TextChoices):
    """What can be paused."""

    BUYING = "buying", "Buying"
    WITHDRAWING = "withdrawing", "Withdrawing"


class PauseSource(models.TextChoices):
    """Who paused it. What reconciliation paused it never lifts by itself: somebody has to look."""

    OPERATOR = "operator", "An operator"
    RECONCILIATION = "reconciliation", "Reconciliation"


class Pause(models.Model):
    """A kill switch that is on while `lifted_at` is null. Without an asset it stops the activity altogether."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    activity = models.CharField(max_length=12, choices=Activity.choices)
    asset = models.ForeignKey(Asset, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    source = models.CharField(max_length=16, choices=PauseSource.choices, default=PauseSource.OPERATOR)
    reason = models.CharField(max_length=300)
    details = models.JSONField(
        default=dict, blank=True, help_text="For a divergence: how much, and since when."
    )
    actor = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    lifted_at = models.DateTimeField(null=True, blank=True, editable=False)
    lifted_by = models.CharField(max_length=120, blank=True, editable=False)
    lifted_note = models.CharField(max_length=300, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["activity", "asset", "source"],
                condition=Q(lifted_at__isnull=True),
                nulls_distinct=False,
                name="treasury_pause_active",
            ),
            models.CheckConstraint(
                condition=Q(activity__in=Activity.values, source__in=PauseSource.values),
                name="treasury_pause_choices",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.activity} of {self.asset_id or 'everything'}: {self.reason}"
