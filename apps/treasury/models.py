"""Pauses: what is not bought or paid out just now, who or what stopped it, and why; the latest proof of reserves."""

from django.db import models
from django.db.models import Q

from apps.chain.models import Network
from apps.core import clock
from apps.core.fields import UnitsField
from apps.core.ids import uuid7
from apps.core.models import Asset


class Activity(models.TextChoices):
    """What can be paused."""

    BUYING = "buying", "Buying"
    WITHDRAWING = "withdrawing", "Withdrawing"
    # No money moves by it, but one list of switches is what operators look at in a hurry.
    SIGNING_UP = "signing_up", "Signing up"


class PauseSource(models.TextChoices):
    """Who paused it. What reconciliation paused it never lifts by itself: somebody has to look."""

    OPERATOR = "operator", "An operator"
    RECONCILIATION = "reconciliation", "Reconciliation"
    # Comes and goes with the state (`apps.launch`), whatever operators switched beside it.
    PLATFORM = "platform", "The platform's state"


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
            models.CheckConstraint(
                condition=~Q(activity="signing_up") | Q(asset__isnull=True),
                name="treasury_pause_signing_up_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.activity} of {self.asset_id or 'everything'}: {self.reason}"


class Verdict(models.TextChoices):
    """What the latest look said about an asset."""

    MATCHED = "matched", "Books and chain agree to the last unit"
    CHECKING = "checking", "They differ; a second look at a later block decides"
    DIVERGED = "diverged", "They differed in two looks"
    UNPROVED = "unproved", "Could not be compared"


class ReservesSnapshot(models.Model):
    """The latest comparison of books and chain, per asset. All wallets of ours are added up, at one block.

    The books hold when `chain_units == ledger_units + in_flight_units`. `mismatch_units` adds up what every single
    wallet is off by, whatever its sign, so that two errors do not hide each other.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.CASCADE, related_name="reserves")
    asset = models.OneToOneField(Asset, on_delete=models.CASCADE, related_name="reserves")
    verdict = models.CharField(max_length=10, choices=Verdict.choices)
    reason = models.CharField(max_length=300, blank=True)
    liabilities_units = UnitsField(default=0, help_text="What people have, available and held.")
    ledger_units = UnitsField(default=0)
    chain_units = UnitsField(default=0)
    in_flight_units = UnitsField(default=0, help_text="Mined, and not booked yet.")
    mismatch_units = UnitsField(default=0)
    block_number = models.BigIntegerField(null=True, blank=True)
    looked_at = models.DateTimeField(default=clock.now)
    # The last block at which all was well, and the first at which it was not.
    matched_block = models.BigIntegerField(null=True, blank=True)
    since_block = models.BigIntegerField(null=True, blank=True)
    # What the alarm was raised for, and the block of a first look that saw something else.
    alarmed_units = UnitsField(null=True, blank=True)
    suspected_block = models.BigIntegerField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "reserves"
        constraints = [
            models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="treasury_reserves_verdict")
        ]

    def __str__(self) -> str:
        return f"{self.asset_id} {self.verdict} at block {self.block_number}"

    @property
    def difference_units(self) -> int:
        """What the chain has more (or, when negative, less) than the books can explain."""
        return int(self.chain_units - self.ledger_units - self.in_flight_units)
