"""What callers send about plans. Form is checked here; what it means is checked by `apps.plans.terms`."""

from typing import Any

from rest_framework import serializers

from apps.core import clock
from apps.core.api.fields import (
    AmountField,
    IdField,
    InstantField,
    OneOfField,
    QueryNumberField,
    TextField,
    TimeZoneField,
    WholeNumberField,
)
from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import PageQuerySerializer
from apps.plans.missed import MissedPolicy
from apps.plans.models import PlanState, SlotReason, SlotState
from apps.plans.schedule import Kind
from apps.plans.terms import NAME_MAX_LENGTH, SLIPPAGE_MAX_BPS, ScheduleInput
from apps.providers.api.fields import MarketField

_SOLD = "market.sold_asset"
_DAY_SECONDS = 86_400
_NUMBER_MAX = 2_147_483_647
PREVIEW_RUNS_MAX = 100


class WeekdaysField(serializers.ListField):
    """ISO weekdays, Monday 1 to Sunday 7."""

    child = WholeNumberField(min_value=1, max_value=7)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=7, **kwargs)


class SchedulePatchSerializer(StrictSerializer):
    """Fields that are not sent stay as they are; another `kind` starts from that kind's defaults."""

    kind = OneOfField(choices=[kind.value for kind in Kind], required=False)
    time_zone = TimeZoneField(required=False)
    start_at = InstantField(
        required=False, help_text="The anchor: no run is before it; intervals are counted from it."
    )
    interval = WholeNumberField(
        required=False, min_value=1, max_value=8_784, help_text="Every how many hours, days, weeks or months."
    )
    at = TextField(
        required=False,
        allow_null=True,
        max_length=5,
        help_text="Wall time HH:MM in `time_zone`, for daily, weekly and monthly.",
    )
    weekdays = WeekdaysField(
        required=False, help_text="Weekly: Monday 1 to Sunday 7; the start's when empty."
    )
    day = WholeNumberField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=31,
        help_text="Monthly: day of the month, clamped to its end; the start's when absent.",
    )
    cron = TextField(
        required=False,
        max_length=120,
        allow_blank=True,
        help_text="Cron: minute, hour, day, month, weekday in `time_zone`.",
    )
    end_at = InstantField(required=False, allow_null=True, help_text="No run is after it.")
    max_runs = WholeNumberField(required=False, allow_null=True, min_value=1, max_value=1_000_000)


class ScheduleWriteSerializer(SchedulePatchSerializer):
    """When a plan runs, by the wall clock of a time zone."""

    kind = OneOfField(choices=[kind.value for kind in Kind])
    time_zone = TimeZoneField()
    start_at = InstantField(
        required=False,
        help_text="The anchor: no run is before it; intervals are counted from it. Now when absent.",
    )

    def validate(self, attrs: dict[str, Any]) -> Any:
        return ScheduleInput(**{"start_at": clock.now().replace(microsecond=0), **attrs})


class _PlanTermsSerializer(StrictSerializer):
    """What both creating and changing take."""

    name = TextField(max_length=NAME_MAX_LENGTH)
    amount = AmountField(asset=_SOLD, source="amount_units", help_text="Per run, fee included.")
    total_budget = AmountField(
        asset=_SOLD,
        source="total_budget_units",
        required=False,
        allow_null=True,
        help_text="All runs together; the last one takes what is left.",
    )
    price_min = AmountField(
        asset=_SOLD,
        source="price_min_units",
        required=False,
        allow_null=True,
        help_text="Buy only while one whole bought coin costs at least this.",
    )
    price_max = AmountField(
        asset=_SOLD,
        source="price_max_units",
        required=False,
        allow_null=True,
        help_text="Buy only while one whole bought coin costs at most this.",
    )
    max_slippage_bps = WholeNumberField(
        required=False,
        min_value=1,
        max_value=SLIPPAGE_MAX_BPS,
        help_text="How far below the reference price a buy may fill; the market's guard when absent.",
    )
    missed_policy = OneOfField(
        choices=[policy.value for policy in MissedPolicy],
        required=False,
        help_text="What to do about runs that the platform was too late for.",
    )
    grace_seconds = WholeNumberField(
        required=False, min_value=0, max_value=30 * _DAY_SECONDS, help_text="run_once: how late is too late."
    )
    run_all_limit = WholeNumberField(
        required=False, min_value=1, max_value=100, help_text="run_all: how many at most are made up for."
    )


class PlanWriteSerializer(_PlanTermsSerializer):
    market = MarketField(help_text="A market's id, or a pair such as USDC/WETH.")
    schedule = ScheduleWriteSerializer()


class PlanPatchSerializer(_PlanTermsSerializer):
    """Only what is sent changes; `null` takes a limit away. `version` is the one that was read."""

    version = WholeNumberField(min_value=1, max_value=_NUMBER_MAX)
    name = TextField(max_length=NAME_MAX_LENGTH, required=False)
    amount = AmountField(
        asset=_SOLD, source="amount_units", required=False, help_text="Per run, fee included."
    )
    schedule = SchedulePatchSerializer(required=False)


class PlanFilterSerializer(PageQuerySerializer):
    state = OneOfField(choices=PlanState.values, required=False)
    market_id = IdField(required=False)


class SlotFilterSerializer(PageQuerySerializer):
    state = OneOfField(choices=SlotState.values, required=False)
    reason = OneOfField(choices=SlotReason.values, required=False)


class CountQuerySerializer(StrictSerializer):
    count = QueryNumberField(required=False, min_value=1, max_value=PREVIEW_RUNS_MAX, default=10)
