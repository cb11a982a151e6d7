"""Whose funds run low: looked at once a day, person after person, before a buy is skipped for want of them."""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import takewhile
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from apps.core import bulk, clock
from apps.core.api.amounts import amount_format
from apps.core.failpoints import reach
from apps.core.ids import uuid7_many
from apps.core.models import Asset
from apps.mail.services import MessageDraft, messages_queue
from apps.notifications.letters import when
from apps.notifications.models import FundsCheck, FundsNotice
from apps.notifications.recipients import Recipient, recipients_read
from apps.plans.models import Plan, PlanState
from apps.plans.rules import rule_of

PEOPLE_PER_STEP: Final = 1_000
HORIZON: Final = timedelta(days=7)
# From this hour (UTC) on, each day is looked at.
HOUR: Final = 6
TOLD_AGAIN_AFTER: Final = timedelta(days=7)

# People after `owner`, each once per asset they pay with, whose available units may not cover what their plans can
# spend within the horizon. Generous: what a plan could spend at most; the exact look follows for these few only.
_CANDIDATES = """
WITH people AS (
    SELECT DISTINCT owner_id FROM plans_plan
    WHERE state = 'active' AND owner_id > %(owner)s ORDER BY owner_id LIMIT %(limit)s
), needs AS (
    SELECT plan.owner_id, market.sold_asset_id AS asset_id, sum(plan.amount_units * CASE plan.schedule_kind
        WHEN 'hourly' THEN ceil(%(hours)s::numeric / plan.interval) + 1
        WHEN 'daily' THEN ceil(%(hours)s::numeric / 24 / plan.interval) + 1
        WHEN 'weekly' THEN (ceil(%(hours)s::numeric / 168 / plan.interval) + 1)
            * greatest(1, coalesce(array_length(plan.weekdays, 1), 0))
        WHEN 'monthly' THEN 2
        ELSE %(hours)s * 60 END) AS most_units
    FROM plans_plan AS plan JOIN providers_market AS market ON market.id = plan.market_id
    WHERE plan.state = 'active' AND plan.owner_id IN (SELECT owner_id FROM people) GROUP BY 1, 2
)
SELECT people.owner_id, needs.asset_id, coalesce(account.balance_units, 0)
FROM people LEFT JOIN needs ON needs.owner_id = people.owner_id
LEFT JOIN ledger_account AS account ON account.owner_id = needs.owner_id AND account.asset_id = needs.asset_id
    AND account.kind = 'available' AND account.ref = ''
WHERE coalesce(account.balance_units, 0) < needs.most_units OR needs.owner_id IS NULL
"""
_LAST = """
SELECT (array_agg(owner_id ORDER BY owner_id DESC))[1], count(*) FROM (SELECT DISTINCT owner_id FROM plans_plan
    WHERE state = 'active' AND owner_id > %(owner)s ORDER BY owner_id LIMIT %(limit)s) AS people
"""


@dataclass(frozen=True)
class Low:
    """An asset of a person that does not last: `short_at` is the first buy that it cannot pay."""

    user_id: UUID
    asset_id: UUID
    available_units: int
    planned_units: int
    next_at: datetime
    short_at: datetime


def funds_check() -> bool:
    """Today's look at the next `PEOPLE_PER_STEP` people; True when there is more to do today.

    Each step is a transaction: what it found out, the mails and how far it came commit together.
    """
    now = clock.now()
    if now.hour < HOUR:
        return False
    if not FundsCheck.objects.filter(day=now.date()).exists():
        # Only then: an insert would wait for whoever is at today's row.
        FundsCheck.objects.bulk_create([FundsCheck(day=now.date())], ignore_conflicts=True)
    with transaction.atomic():
        check = (
            FundsCheck.objects.select_for_update(skip_locked=True)
            .filter(day=now.date(), done_at__isnull=True)
            .first()
        )
        if check is None:
            return False
        last, count, candidates = _candidates(check.last_owner_id)
        if count:
            _tell(_low(candidates, now), now.date(), after=check.last_owner_id, until=last)
            check.last_owner_id = last
        if count < PEOPLE_PER_STEP:
            check.done_at = now
        check.save()
        reach("notifications.funds.before_commit")
    return count == PEOPLE_PER_STEP


def _candidates(owner_id: UUID) -> tuple[UUID, int, dict[tuple[UUID, UUID], int]]:
    """The last person of the step, how many people it has, and available units by (person, asset) worth a look."""
    parameters: dict[str, Any] = {
        "owner": owner_id,
        "limit": PEOPLE_PER_STEP,
        "hours": int(HORIZON.total_seconds()) // 3_600,
    }
    with connection.cursor() as cursor:
        cursor.execute(_LAST, parameters)
        last, count = cursor.fetchone()
        cursor.execute(_CANDIDATES, parameters)
        found = {
            (user_id, asset_id): int(units) for user_id, asset_id, units in cursor.fetchall() if asset_id
        }
    return last or owner_id, int(count), found


def _low(candidates: dict[tuple[UUID, UUID], int], now: datetime) -> list[Low]:
    """Walk the coming buys of each candidate in time, until money or horizon ends. One query for all plans."""
    owners = {user_id for user_id, _ in candidates}
    plans: dict[tuple[UUID, UUID], list[Plan]] = defaultdict(list)
    rows = Plan.objects.filter(owner__id__any_of=list(owners), state=PlanState.ACTIVE)
    for plan in rows.select_related("market"):
        plans[plan.owner_id, plan.market.sold_asset_id].append(plan)
    found = []
    for key, available in candidates.items():
        low = _walk(key, available, plans[key], until=now + HORIZON)
        if low is not None:
            found.append(low)
    return found


def _walk(key: tuple[UUID, UUID], available: int, plans: Sequence[Plan], *, until: datetime) -> Low | None:
    left, planned = available, 0
    first: datetime | None = None
    short_at: datetime | None = None
    for at, _, amount in heapq.merge(*(_runs(plan, number, until) for number, plan in enumerate(plans))):
        first = first or at
        planned += amount
        left -= amount
        if left < 0 and short_at is None:
            short_at = at
    if short_at is None or first is None:
        return None
    return Low(key[0], key[1], available, planned, first, short_at)


def _runs(plan: Plan, number: int, until: datetime) -> Iterator[tuple[datetime, int, int]]:
    """The plan's buys until then, as (instant, tie breaker, units): its budget, its end and its last run count."""
    left = None if plan.total_budget_units is None else plan.total_budget_units - plan.committed_units
    runs = None if plan.max_runs is None else plan.max_runs - plan.next_number + 1
    following = rule_of(plan).after(plan.run_after - timedelta(microseconds=1))
    for at in takewhile(lambda moment: moment <= until, following):
        ended = plan.end_at is not None and at >= plan.end_at
        amount = plan.amount_units if left is None else min(left, plan.amount_units)
        if ended or amount <= 0 or (runs is not None and runs <= 0):
            return
        yield at, number, amount
        left = None if left is None else left - amount
        runs = None if runs is None else runs - 1


def _tell(found: Sequence[Low], day: date, *, after: UUID, until: UUID) -> None:
    """Mail whom it is news to, forget whom it no longer concerns."""
    now = clock.now()
    told = {
        (user_id, asset_id): at
        for user_id, asset_id, at in FundsNotice.objects.filter(
            user_id__gt=after, user_id__lte=until
        ).values_list("user_id", "asset_id", "told_at")
    }
    low = {(one.user_id, one.asset_id) for one in found}
    over = [key for key in told if key not in low]
    for user_id, asset_id in over:
        FundsNotice.objects.filter(user_id=user_id, asset_id=asset_id).delete()
    news = [
        one
        for one in found
        if (at := told.get((one.user_id, one.asset_id))) is None or now - at >= TOLD_AGAIN_AFTER
    ]
    if not news:
        return
    people = recipients_read({one.user_id for one in news})
    assets = {asset.pk: asset for asset in Asset.objects.filter(pk__in={one.asset_id for one in news})}
    by_person: dict[UUID, list[Low]] = defaultdict(list)
    for one in news:
        by_person[one.user_id].append(one)
    messages_queue(
        [
            MessageDraft(
                to=person.email,
                template="funds_low",
                key=f"funds:{day}:{user_id}:funds_low",
                essential=False,
                context={
                    "assets": [_context(one, assets[one.asset_id], person, now) for one in by_person[user_id]]
                },
                language=person.language,
            )
            for user_id, person in people.items()
            if "funds_low" not in person.muted
        ]
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_fundsnotice (id, user_id, asset_id, told_at)"
            " SELECT d.id, d.user_id, d.asset_id, %s FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[])"
            " AS d (id, user_id, asset_id) ON CONFLICT (user_id, asset_id) DO UPDATE SET told_at = EXCLUDED.told_at",
            [
                now,
                bulk.uuids(uuid7_many(len(news), now)),
                bulk.uuids(one.user_id for one in news),
                bulk.uuids(one.asset_id for one in news),
            ],
        )


def _context(low: Low, asset: Asset, person: Recipient, now: datetime) -> dict[str, Any]:
    days = max(0, (low.short_at - now).days)
    return {
        "asset": asset.code,
        "available": amount_format(low.available_units, decimals=asset.decimals),
        "planned": amount_format(low.planned_units, decimals=asset.decimals),
        "lasts": f"about {days} day{'' if days == 1 else 's'}" if days else "less than a day",
        "next_at": when(low.next_at, person.zone),
        "short_at": when(low.short_at, person.zone),
    }
