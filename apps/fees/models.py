"""Fee schedules: append-only history; in force is the row with the latest `valid_from` that has come."""

from django.db import models
from django.db.models import F, Q

from apps.core import clock
from apps.core.fields import Uint256Field
from apps.core.ids import uuid7
from apps.fees.domain import BPS_WHOLE


class FeeSchedule(models.Model):
    """What a tier pays from `valid_from` on, for one asset, or (no asset) for every asset without its own.

    At most one row per (tier, asset) is in force at any instant by construction: the latest that has begun,
    and two cannot begin at once. Rows are never changed or deleted (trigger), so that every fee ever
    charged can be computed again.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tier = models.CharField(max_length=32)
    asset = models.ForeignKey(
        "core.Asset", null=True, blank=True, on_delete=models.PROTECT, related_name="fee_schedules"
    )
    bps = models.PositiveIntegerField(help_text="Basis points of the amount, 0 to 10000.")
    min_units = Uint256Field(default=0)
    max_units = Uint256Field(null=True, blank=True, help_text="Empty means no maximum.")
    valid_from = models.DateTimeField(default=clock.now)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["tier", "asset_id", "-valid_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["tier", "asset", "valid_from"],
                name="fees_feeschedule_one_per_instant",
                nulls_distinct=False,
            ),
            models.CheckConstraint(condition=~Q(tier=""), name="fees_feeschedule_tier_named"),
            models.CheckConstraint(condition=Q(bps__lte=BPS_WHOLE), name="fees_feeschedule_bps_range"),
            models.CheckConstraint(condition=Q(min_units__gte=0), name="fees_feeschedule_min_not_negative"),
            models.CheckConstraint(
                condition=Q(max_units__isnull=True) | Q(max_units__gte=F("min_units")),
                name="fees_feeschedule_max_not_below_min",
            ),
            # Units of no asset mean nothing: a tier-wide row can only be proportional.
            models.CheckConstraint(
                condition=Q(asset__isnull=False) | Q(min_units=0, max_units__isnull=True),
                name="fees_feeschedule_bounds_need_asset",
            ),
        ]

    def __str__(self) -> str:
        return (
            f"{self.tier} {self.asset_id or 'any asset'} {self.bps} bps from {self.valid_from:%Y-%m-%d %H:%M}"
        )
