"""Which schedule is in force, and what the database refuses."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from apps.core import clock
from apps.core.errors import Conflict, DomainError
from apps.core.models import Asset
from apps.fees.errors import FeeScheduleMissing
from apps.fees.models import FeeSchedule
from apps.fees.selectors import fee_rules_by_tier, fee_schedule_in_force, fees_for
from apps.fees.services import fee_quote, fee_schedule_set

pytestmark = pytest.mark.django_db


@pytest.fixture
def usdc() -> Asset:
    return Asset.objects.create(code="USDC", name="USD Coin", decimals=6)


def test_latest_schedule_that_has_begun_is_in_force_and_history_is_kept(usdc: Asset) -> None:
    # given two schedules, the second to begin tomorrow
    now = clock.now()
    fee_schedule_set(tier="standard", asset_id=usdc.id, bps=50)
    fee_schedule_set(tier="standard", asset_id=usdc.id, bps=25, valid_from=now + timedelta(days=1))
    # then today's rule is the first, tomorrow's the second, and yesterday had none
    later = now + timedelta(minutes=1)
    assert fee_schedule_in_force(asset_id=usdc.id, tier="standard", at=later).bps == 50
    assert fee_schedule_in_force(asset_id=usdc.id, tier="standard", at=now + timedelta(days=1)).bps == 25
    with pytest.raises(FeeScheduleMissing):
        fee_schedule_in_force(asset_id=usdc.id, tier="standard", at=now - timedelta(days=1))
    assert FeeSchedule.objects.count() == 2


def test_assets_own_schedule_goes_before_the_tiers(usdc: Asset) -> None:
    fee_schedule_set(tier="standard", asset_id=usdc.id, bps=10)
    fee_schedule_set(tier="standard", bps=90)
    other = Asset.objects.create(code="DAI", name="Dai", decimals=18)
    assert fees_for(asset_id=usdc.id, tier="standard", amounts=[10_000]) == [10]
    assert fees_for(asset_id=other.id, tier="standard", amounts=[10_000]) == [90]


def test_fees_of_many_amounts_take_one_query(
    usdc: Asset, django_assert_num_queries: Callable[..., Any]
) -> None:
    fee_schedule_set(tier="standard", asset_id=usdc.id, bps=25, min_units=10)
    with django_assert_num_queries(1):
        charged = fees_for(asset_id=usdc.id, tier="standard", amounts=range(1_000_000, 1_000_500))
    assert charged == [2_500 + extra * 25 // 10_000 for extra in range(500)]


def test_rules_of_several_tiers_take_one_query(
    usdc: Asset, django_assert_num_queries: Callable[..., Any]
) -> None:
    fee_schedule_set(tier="standard", bps=50)
    fee_schedule_set(tier="gold", bps=50)
    fee_schedule_set(tier="gold", asset_id=usdc.id, bps=5)
    with django_assert_num_queries(1):
        rules = fee_rules_by_tier(asset_id=usdc.id, tiers=["standard", "gold"])
    assert {tier: rule.bps for tier, rule in rules.items()} == {"standard": 50, "gold": 5}
    with pytest.raises(FeeScheduleMissing, match="silver"):
        fee_rules_by_tier(asset_id=usdc.id, tiers=["standard", "silver"])


def test_fee_quote_adds_up_and_names_its_rule(usdc: Asset) -> None:
    fee_schedule_set(tier="standard", asset_id=usdc.id, bps=25, min_units=10, max_units=900)
    quote = fee_quote(asset_id=usdc.id, tier="standard", amount_units=1_000_000)
    assert (quote.amount_units, quote.fee_units, quote.net_units) == (1_000_000, 900, 999_100)
    assert quote.rule.max_units == 900


def test_two_schedules_cannot_begin_at_once(usdc: Asset) -> None:
    at = clock.now() + timedelta(hours=1)
    fee_schedule_set(tier="standard", bps=1, valid_from=at)
    fee_schedule_set(tier="standard", asset_id=usdc.id, bps=1, valid_from=at)
    with pytest.raises(Conflict):
        fee_schedule_set(tier="standard", bps=2, valid_from=at)
    assert FeeSchedule.objects.count() == 2


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ({"bps": 10_001}, "fee_bps"),
        ({"bps": -1}, "fee_bps"),
        ({"bps": 1, "min_units": 5}, "fee_bounds"),
        ({"bps": 1, "max_units": 5}, "fee_bounds"),
        ({"bps": 1, "tier": ""}, "fee_tier"),
    ],
)
def test_senseless_schedule_is_refused_and_nothing_is_written(numbers: dict[str, Any], code: str) -> None:
    with pytest.raises(DomainError) as refused:
        fee_schedule_set(**{"tier": "standard", **numbers})
    assert refused.value.code == code
    assert not FeeSchedule.objects.exists()


def test_schedule_cannot_begin_in_the_past(usdc: Asset) -> None:
    with pytest.raises(DomainError) as refused:
        fee_schedule_set(tier="standard", bps=1, valid_from=clock.now() - timedelta(seconds=1))
    assert refused.value.code == "fee_valid_from"


def test_database_itself_refuses_change_and_removal(usdc: Asset) -> None:
    schedule = fee_schedule_set(tier="standard", asset_id=usdc.id, bps=25)
    for statement in ("UPDATE fees_feeschedule SET bps = 1", "DELETE FROM fees_feeschedule"):
        with (
            pytest.raises(IntegrityError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
    schedule.refresh_from_db()
    assert schedule.bps == 25


@pytest.mark.parametrize(
    "row",
    [
        {"bps": 10_001},
        {"bps": 1, "min_units": 2, "max_units": 1},
        {"bps": 1, "min_units": -1},
        {"bps": 1, "tier": ""},
        {"bps": 1, "asset": None, "min_units": 1},
    ],
)
def test_database_itself_refuses_senseless_rows(usdc: Asset, row: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        FeeSchedule.objects.create(**{"tier": "standard", "asset": usdc, **row})
