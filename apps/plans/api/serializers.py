"""How plans, slots and previews look on the wire."""

from collections.abc import Mapping
from typing import Any, cast

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.chain import selectors as chain_selectors
from apps.core.api.fields import (
    AmountField,
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
from apps.plans.models import Plan, PlanState, Slot, SlotReason, SlotState
from apps.plans.preview import Preview
from apps.plans.rules import rule_of
from apps.plans.schedule import Kind, describe
from apps.plans.services import ScheduleInput
from apps.providers.api.fields import MarketField

_DAY = 86_400


class WeekdaysField(serializers.ListField):
    child = WholeNumberField(min_value=1, max_value=7)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=7, **kwargs)


class ScheduleWriteSerializer(StrictSerializer):
    kind = OneOfField(choices=[kind.value for kind in Kind])
    time_zone = TimeZoneField()
    start_at = InstantField(
        help_text="The anchor: no run is before it; monthly plans take their day from it."
    )
    interval = WholeNumberField(required=False, min_value=1, max_value=8_784, default=1)
    at = TextField(required=False, max_length=5, help_text="Wall time HH:MM for daily, weekly and monthly.")
    weekdays = WeekdaysField(required=False, default=list)
    day = WholeNumberField(
        required=False, min_value=1, max_value=31, help_text="Monthly: clamped to the month."
    )
    cron = TextField(required=False, max_length=120, default="", allow_blank=True)
    end_at = InstantField(required=False)
    max_runs = WholeNumberField(required=False, min_value=1, max_value=1_000_000)

    def validate(self, attrs: dict[str, Any]) -> Any:
        return ScheduleInput(**attrs)


class _PlanFieldsSerializer(StrictSerializer):
    name = TextField(max_length=80, trim_whitespace=True)
    amount = AmountField(asset="market.sold_asset", source="amount_units", help_text="Per run, fee included.")
    total_budget = AmountField(asset="market.sold_asset", source="total_budget_units", required=False)
    price_min = AmountField(
        asset="market.sold_asset",
        source="price_min_units",
        required=False,
        help_text="Buy only at or above this price of one whole bought coin.",
    )
    price_max = AmountField(asset="market.sold_asset", source="price_max_units", required=False)
    max_slippage_bps = WholeNumberField(required=False, min_value=1, max_value=5_000)
    missed_policy = OneOfField(choices=[policy.value for policy in MissedPolicy], required=False)
    grace_seconds = WholeNumberField(required=False, min_value=0, max_value=30 * _DAY)
    run_all_limit = WholeNumberField(required=False, min_value=1, max_value=100)


class PlanWriteSerializer(_PlanFieldsSerializer):
    market = MarketField(help_text="A market's id, or a pair such as USDC/WETH.")
    schedule = ScheduleWriteSerializer()


class PlanPatchSerializer(_PlanFieldsSerializer):
    """Only what is sent changes; `null` takes a limit away. `version` is the one that was read."""

    version = WholeNumberField(min_value=1, max_value=2_147_483_647)
    name = TextField(max_length=80, required=False)
    amount = AmountField(asset="market.sold_asset", source="amount_units", required=False)
    total_budget = AmountField(
        asset="market.sold_asset", source="total_budget_units", required=False, allow_null=True
    )
    price_min = AmountField(
        asset="market.sold_asset", source="price_min_units", required=False, allow_null=True
    )
    price_max = AmountField(
        asset="market.sold_asset", source="price_max_units", required=False, allow_null=True
    )
    schedule = ScheduleWriteSerializer(required=False)


class PlanFilterSerializer(PageQuerySerializer):
    state = OneOfField(choices=PlanState.values, required=False, default="")


class SlotFilterSerializer(PageQuerySerializer):
    state = OneOfField(choices=SlotState.values, required=False, default="")
    reason = OneOfField(choices=SlotReason.values, required=False, default="")


class CountQuerySerializer(StrictSerializer):
    count = QueryNumberField(required=False, min_value=1, max_value=100, default=10)


class MarketOutSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    sold = serializers.CharField(source="sold_asset.code")
    bought = serializers.CharField(source="bought_asset.code")


class ScheduleSerializer(serializers.Serializer[Plan]):
    kind = serializers.CharField(source="schedule_kind")
    interval = serializers.IntegerField()
    at = serializers.TimeField(source="local_time", format="%H:%M", allow_null=True)
    weekdays = serializers.ListField(child=serializers.IntegerField())
    day = serializers.IntegerField(source="month_day", allow_null=True)
    cron = serializers.CharField()
    time_zone = serializers.CharField(source="zone")
    start_at = InstantField()
    end_at = InstantField(allow_null=True)
    max_runs = serializers.IntegerField(allow_null=True)
    description = serializers.SerializerMethodField()

    def get_description(self, plan: Plan) -> str:
        return describe(rule_of(plan))


class PlanSerializer(serializers.Serializer[Plan]):
    id = serializers.UUIDField()
    version = serializers.IntegerField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=PlanState.choices)
    state_reason = serializers.CharField()
    market = MarketOutSerializer()
    amount = AmountField(asset="market.sold_asset", source="amount_units")
    total_budget = AmountField(asset="market.sold_asset", source="total_budget_units", allow_null=True)
    committed = AmountField(
        asset="market.sold_asset", source="committed_units", help_text="Bought for, or being bought for."
    )
    price_min = AmountField(asset="market.sold_asset", source="price_min_units", allow_null=True)
    price_max = AmountField(asset="market.sold_asset", source="price_max_units", allow_null=True)
    max_slippage_bps = serializers.IntegerField()
    missed_policy = serializers.ChoiceField(choices=[policy.value for policy in MissedPolicy])
    grace_seconds = serializers.IntegerField()
    run_all_limit = serializers.IntegerField()
    misses_in_a_row = serializers.IntegerField()
    schedule = ScheduleSerializer(source="*")
    next_number = serializers.IntegerField()
    next_run_at = serializers.SerializerMethodField()
    created_at = InstantField()

    @extend_schema_field({"type": ["string", "null"], "format": "date-time"})
    def get_next_run_at(self, plan: Plan) -> str | None:
        live = plan.state == PlanState.ACTIVE
        return InstantField().to_representation(plan.run_after) if live else None


class SlotTransactionSerializer(serializers.Serializer[Any]):
    hash = serializers.SerializerMethodField()
    state = serializers.CharField()
    block_number = serializers.IntegerField(allow_null=True)

    def get_hash(self, transaction: Any) -> str:
        return chain_selectors.transaction_hash(transaction)


class SlotSerializer(serializers.Serializer[Slot]):
    id = serializers.UUIDField()
    plan_id = serializers.UUIDField()
    number = serializers.IntegerField()
    market = MarketOutSerializer()
    scheduled_at = InstantField()
    state = serializers.ChoiceField(choices=SlotState.choices)
    reason = serializers.CharField(help_text="Why it ended as it did; empty while it has not.")
    amount = AmountField(asset="market.sold_asset", source="amount_units")
    fee = AmountField(asset="market.sold_asset", source="fee_units", allow_null=True)
    swapped = AmountField(asset="market.sold_asset", source="swap_units", allow_null=True)
    received = AmountField(asset="market.bought_asset", source="received_units", allow_null=True)
    transaction = SlotTransactionSerializer(source="batch.transaction", allow_null=True, default=None)
    created_at = InstantField()
    closed_at = InstantField(allow_null=True)


class JournalSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    reference = serializers.CharField()
    posted_at = InstantField()


class BatchSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.CharField()
    slots = serializers.IntegerField(source="slot_count")
    tries = serializers.IntegerField(source="try_number")
    amount_in = AmountField(asset="market.sold_asset", source="amount_in_units")
    min_out = AmountField(asset="market.bought_asset", source="min_out_units", allow_null=True)
    filled_out = AmountField(asset="market.bought_asset", source="filled_out_units", allow_null=True)


class SlotDetailSerializer(SlotSerializer):
    """One slot with everything that decided over it."""

    explanation = serializers.SerializerMethodField()
    decision = serializers.SerializerMethodField()
    batch = serializers.SerializerMethodField()
    journals = serializers.SerializerMethodField()

    def get_explanation(self, slot: Slot) -> str:
        return str(SlotReason(slot.reason).label) if slot.reason else "Not decided yet."

    @extend_schema_field({"type": "object", "additionalProperties": {}})
    def get_decision(self, slot: Slot) -> Mapping[str, Any]:
        """The slot's own facts over those that it shares with its batch."""
        shared = slot.batch.decision if slot.batch is not None else {}
        return {**shared, **slot.decision}

    @extend_schema_field(BatchSerializer(allow_null=True))
    def get_batch(self, slot: Slot) -> Any:
        if slot.batch is None:
            return None
        # The batch's market is the slot's: set, so that its assets are not read again.
        slot.batch.market = slot.market
        return BatchSerializer(slot.batch).data

    @extend_schema_field(JournalSerializer(many=True))
    def get_journals(self, slot: Slot) -> Any:
        del slot
        return JournalSerializer(cast("list[Any]", self.context["journals"]), many=True).data


class RunSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    scheduled_at = InstantField()
    local_at = serializers.CharField(help_text="The same instant by the plan's own clock, with its offset.")
    amount = AmountField(asset="sold_asset", source="amount_units")
    fee = AmountField(asset="sold_asset", source="fee_units")
    swapped = AmountField(asset="sold_asset", source="swapped_units")


class PreviewSerializer(serializers.Serializer[Preview]):
    description = serializers.CharField()
    runs = serializers.SerializerMethodField()
    available = serializers.SerializerMethodField()
    funded_runs = serializers.IntegerField(
        help_text="Runs that available funds pay, this plan counted alone."
    )
    funds_last_until = InstantField(allow_null=True)
    ends_at = InstantField(
        allow_null=True, help_text="The last run, where the plan ends within the look-ahead."
    )
    warnings = serializers.ListField(child=serializers.CharField())

    @extend_schema_field(RunSerializer(many=True))
    def get_runs(self, preview: Preview) -> Any:
        rows = [
            {
                **{name: getattr(run, name) for name in run.__dataclass_fields__},
                "sold_asset": self.context["sold"],
            }
            for run in preview.runs
        ]
        return RunSerializer(rows, many=True).data

    def get_available(self, preview: Preview) -> str:
        from apps.core.api.amounts import amount_format

        return amount_format(preview.available_units, decimals=self.context["sold"].decimals)
