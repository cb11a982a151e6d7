"""How much may leave: per person within 24 hours, by everybody within an hour. Windows slide: no midnight doubles them.

Counted are withdrawals that did not come back, by the time of the request, under the lock of the asset's rule: two
requests at once are counted one after the other. Whoever checks without it can be overtaken.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import Sum

from apps.core import clock
from apps.core.api.amounts import amount_format
from apps.core.models import Asset
from apps.withdrawals.errors import LimitExceeded, WithdrawalsClosed
from apps.withdrawals.models import COUNTED, Withdrawal, WithdrawalRule

DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Room:
    """What may still be withdrawn now, in base units."""

    person_units: int
    platform_units: int


def rule_get(*, asset: Asset) -> WithdrawalRule:
    """The asset's terms; raises `WithdrawalsClosed` when there are none or they are switched off."""
    return _open(WithdrawalRule.objects.filter(asset=asset).first(), asset)


def rule_lock(*, asset: Asset) -> WithdrawalRule:
    """Like `rule_get`, locked until the transaction ends. The first lock of a request, before any account's."""
    return _open(WithdrawalRule.objects.select_for_update(no_key=True).filter(asset=asset).first(), asset)


def _open(rule: WithdrawalRule | None, asset: Asset) -> WithdrawalRule:
    if rule is None or not rule.enabled:
        raise WithdrawalsClosed("withdrawals_disabled", f"{asset.code} cannot be withdrawn.")
    return rule


def room_read(*, rule: WithdrawalRule, user_id: UUID) -> Room:
    """What the windows leave. Two queries on the partial indexes of what counts."""
    now = clock.now()
    counted = Withdrawal.objects.filter(COUNTED, asset_id=rule.asset_id)
    person = counted.filter(user_id=user_id, created_at__gt=now - DAY).aggregate(units=Sum("amount_units"))
    platform = counted.filter(created_at__gt=now - HOUR).aggregate(units=Sum("amount_units"))
    return Room(
        person_units=max(0, rule.person_daily_units - int(person["units"] or 0)),
        platform_units=max(0, rule.platform_hourly_units - int(platform["units"] or 0)),
    )


def limits_check(*, rule: WithdrawalRule, asset: Asset, user_id: UUID, amount_units: int) -> None:
    """Raises `LimitExceeded`. Call under `rule_lock`, in the transaction that writes the withdrawal."""
    room = room_read(rule=rule, user_id=user_id)
    if amount_units > room.person_units:
        left = amount_format(room.person_units, decimals=asset.decimals)
        raise LimitExceeded(
            "daily_limit",
            f"Within 24 hours you may withdraw {left} {asset.code} more.",
            remaining_units=room.person_units,
        )
    if amount_units > room.platform_units:
        raise LimitExceeded(
            "platform_limit",
            f"The platform's hourly limit for {asset.code} is reached: try again later.",
            remaining_units=room.platform_units,
        )
