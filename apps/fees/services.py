"""Writes: a new schedule supersedes the old one from an instant on. See also `selectors.fees_for`."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from apps.core import clock
from apps.core.brief import Brief
from apps.core.errors import Conflict, DomainError
from apps.fees.domain import BPS_WHOLE, FeeRule
from apps.fees.errors import FeeScheduleMissing
from apps.fees.models import FeeSchedule
from apps.fees.selectors import fee_schedules_of, fees_for, rule_of


def _schedules_read(key: tuple[UUID, str]) -> list[FeeSchedule]:
    return fee_schedules_of(asset_id=key[0], tier=key[1])


# By asset and tier. Whole histories, so that a schedule's beginning is never late; a new one shows within a second.
SCHEDULES = Brief(_schedules_read, seconds=1.0, models=(FeeSchedule,))


@dataclass(frozen=True, slots=True)
class FeeQuote:
    """What a buy of `amount_units` is charged: `amount = fee + net`, and by which rule."""

    amount_units: int
    fee_units: int
    net_units: int
    tier: str
    rule: FeeRule


def fee_quote(*, asset_id: UUID, tier: str, amount_units: int) -> FeeQuote:
    """The fee of one amount with the rule that makes it; raises `FeeScheduleMissing`. One query or none, no write.

    For what is said, not for what is charged: a schedule that an operator added this second may not be in it.
    """
    now = clock.now()
    begun = (row for row in SCHEDULES.get((asset_id, tier)) if row.valid_from <= now)
    schedule = next(begun, None)
    if schedule is None:
        raise FeeScheduleMissing(f"tier {tier!r} has no fee schedule in force for this asset")
    rule = rule_of(schedule)
    fee_units = rule.fee(amount_units)
    return FeeQuote(amount_units, fee_units, amount_units - fee_units, tier, rule)


def fee_schedule_set(
    *,
    tier: str,
    bps: int,
    asset_id: UUID | None = None,
    min_units: int = 0,
    max_units: int | None = None,
    valid_from: datetime | None = None,
) -> FeeSchedule:
    """Put a schedule in force from `valid_from` (default now). Earlier rows stay: they explain earlier fees.

    Raises `DomainError` for numbers out of range or an instant that has passed (a fee is never changed after
    the fact), `Conflict` when another schedule begins at that very instant.
    """
    now = clock.now()
    _check(
        tier=tier, bps=bps, bounded=bool(min_units or max_units is not None), asset_id=asset_id, at=valid_from
    )
    if min_units < 0 or (max_units is not None and max_units < min_units):
        raise DomainError(
            "fee_bounds", "The bounds of a fee are 0 <= minimum <= maximum.", pointer="/min_units"
        )
    try:
        with transaction.atomic():
            return FeeSchedule.objects.create(
                tier=tier,
                asset_id=asset_id,
                bps=bps,
                min_units=min_units,
                max_units=max_units,
                valid_from=valid_from or now,
            )
    except IntegrityError as error:
        if "fees_feeschedule_one_per_instant" not in str(error):
            raise
        raise Conflict("fee_schedule_exists", "Another schedule begins at that instant.") from error


def _check(*, tier: str, bps: int, bounded: bool, asset_id: UUID | None, at: datetime | None) -> None:
    if not tier:
        raise DomainError("fee_tier", "A schedule belongs to a tier.", pointer="/tier")
    if not 0 <= bps <= BPS_WHOLE:
        raise DomainError("fee_bps", "Basis points are between 0 and 10000.", pointer="/bps")
    if bounded and asset_id is None:
        raise DomainError("fee_bounds", "A minimum or maximum needs an asset.", pointer="/asset")
    if at is not None and at < clock.now():
        raise DomainError("fee_valid_from", "A schedule cannot begin in the past.", pointer="/valid_from")


__all__ = ["FeeQuote", "fee_quote", "fee_schedule_set", "fees_for"]
