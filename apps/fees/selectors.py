"""Reads: the schedule in force, and fees of many amounts at once."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import F, Q, QuerySet

from apps.core import clock
from apps.fees.domain import FeeRule, fees
from apps.fees.errors import FeeScheduleMissing
from apps.fees.models import FeeSchedule


def fee_schedule_in_force(*, asset_id: UUID, tier: str, at: datetime | None = None) -> FeeSchedule:
    """The schedule of a tier and asset at an instant (default now); the asset's own goes before the tier's.

    Raises `FeeScheduleMissing`. One query, on the index of `fees_feeschedule_one_per_instant`.
    """
    found = _of(asset_id, tier).filter(valid_from__lte=at or clock.now()).first()
    if found is None:
        raise FeeScheduleMissing(f"tier {tier!r} has no fee schedule in force for this asset")
    return found


def fee_schedules_of(*, asset_id: UUID, tier: str) -> list[FeeSchedule]:
    """All schedules of a tier and asset, past and future: the first that has begun is the one in force. One query."""
    return list(_of(asset_id, tier))


def fee_rule_in_force(*, asset_id: UUID, tier: str, at: datetime | None = None) -> FeeRule:
    """The numbers of `fee_schedule_in_force`."""
    return rule_of(fee_schedule_in_force(asset_id=asset_id, tier=tier, at=at))


def fees_for(*, asset_id: UUID, tier: str, amounts: Sequence[int], at: datetime | None = None) -> list[int]:
    """The fee inside each amount (base units of the asset), in order; one query however many amounts.

    Raises `FeeScheduleMissing`, and `ValueError` for a negative amount.
    """
    return fees(fee_rule_in_force(asset_id=asset_id, tier=tier, at=at), amounts)


def fee_rules_by_tier(
    *, asset_id: UUID, tiers: Sequence[str], at: datetime | None = None
) -> dict[str, FeeRule]:
    """The rule in force per tier, for a chunk of buys by people of several tiers. One query.

    Raises `FeeScheduleMissing` when one of the tiers has none.
    """
    rows = (
        FeeSchedule.objects.filter(tier__in=tiers, valid_from__lte=at or clock.now())
        .filter(Q(asset_id=asset_id) | Q(asset__isnull=True))
        .order_by("tier", F("asset_id").asc(nulls_last=True), "-valid_from")
        .distinct("tier")
    )
    rules = {row.tier: rule_of(row) for row in rows}
    missing = sorted(set(tiers) - set(rules))
    if missing:
        raise FeeScheduleMissing(f"no fee schedule in force for this asset and tiers {', '.join(missing)}")
    return rules


def _of(asset_id: UUID, tier: str) -> QuerySet[FeeSchedule]:
    """The asset's own before the tier's, the newest first."""
    return FeeSchedule.objects.filter(Q(asset_id=asset_id) | Q(asset__isnull=True), tier=tier).order_by(
        F("asset_id").asc(nulls_last=True), "-valid_from"
    )


def rule_of(schedule: FeeSchedule) -> FeeRule:
    """A schedule's numbers as a value."""
    return FeeRule(bps=schedule.bps, min_units=schedule.min_units, max_units=schedule.max_units)
