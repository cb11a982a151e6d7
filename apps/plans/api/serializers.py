"""How plans, slots and previews look on the wire: each amount as a decimal string and as base units."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.chain.domain import AttemptKind, TransactionState
from apps.chain.models import OutboundTransaction, TransactionAttempt
from apps.core.api.amounts import amount_format
from apps.core.api.answers import AnswerSerializer
from apps.core.api.fields import AmountField, InstantField
from apps.ledger.api.serializers import UnitsStringField
from apps.plans.explain import slot_why
from apps.plans.missed import MissedPolicy
from apps.plans.models import Batch, BatchState, Plan, PlanState, Slot, SlotReason, SlotState
from apps.plans.preview import Preview, Run
from apps.plans.rules import rule_of
from apps.plans.schedule import Kind
from apps.plans.schedule_text import describe
from apps.plans.selectors import JournalReference, PlanProgress, SlotRecord, price_units
from apps.providers.models import Market

_SOLD, _BOUGHT = "market.sold_asset", "market.bought_asset"


class MarketPairSerializer(AnswerSerializer[Market]):
    id = serializers.UUIDField()
    sold = serializers.CharField(source="sold_asset.code")
    bought = serializers.CharField(source="bought_asset.code")


@extend_schema_field(
    {"type": ["string", "null"], "pattern": "^[0-2][0-9]:[0-5][0-9]$", "examples": ["09:00"]}
)
class LocalTimeField(serializers.TimeField):
    """A wall time to the minute: what OpenAPI calls a `time` has seconds and an offset (RFC 3339)."""


class ScheduleSerializer(AnswerSerializer[Plan]):
    kind = serializers.ChoiceField(source="schedule_kind", choices=[kind.value for kind in Kind])
    interval = serializers.IntegerField()
    at = LocalTimeField(source="local_time", format="%H:%M", allow_null=True)
    weekdays = serializers.ListField(child=serializers.IntegerField())
    day = serializers.IntegerField(source="month_day", allow_null=True)
    cron = serializers.CharField()
    time_zone = serializers.CharField(source="zone")
    start_at = InstantField()
    end_at = InstantField(allow_null=True)
    max_runs = serializers.IntegerField(allow_null=True)
    description = serializers.SerializerMethodField(help_text="The times in a person's words.")

    def get_description(self, plan: Plan) -> str:
        return describe(rule_of(plan))


class PlanSerializer(AnswerSerializer[Plan]):
    id = serializers.UUIDField()
    version = serializers.IntegerField(help_text="Send it back with a change.")
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=PlanState.choices)
    state_reason = serializers.CharField(help_text="Why it is paused or has ended; empty while active.")
    market = MarketPairSerializer()
    amount = AmountField(asset=_SOLD, source="amount_units")
    amount_units = UnitsStringField()
    total_budget = AmountField(asset=_SOLD, source="total_budget_units", allow_null=True)
    total_budget_units = UnitsStringField(allow_null=True)
    committed = AmountField(
        asset=_SOLD, source="committed_units", help_text="Spent, or promised to slots that are under way."
    )
    committed_units = UnitsStringField()
    price_min = AmountField(asset=_SOLD, source="price_min_units", allow_null=True)
    price_min_units = UnitsStringField(allow_null=True)
    price_max = AmountField(asset=_SOLD, source="price_max_units", allow_null=True)
    price_max_units = UnitsStringField(allow_null=True)
    max_slippage_bps = serializers.IntegerField()
    missed_policy = serializers.ChoiceField(choices=[policy.value for policy in MissedPolicy])
    grace_seconds = serializers.IntegerField()
    run_all_limit = serializers.IntegerField()
    misses_in_a_row = serializers.IntegerField(help_text="Runs that funds did not pay; at three it pauses.")
    schedule = ScheduleSerializer(source="*")
    next_number = serializers.IntegerField()
    next_run_at = serializers.SerializerMethodField(help_text="`null` while the plan is not active.")
    created_at = InstantField()

    @extend_schema_field({"type": ["string", "null"], "format": "date-time"})
    def get_next_run_at(self, plan: Plan) -> str | None:
        live = plan.state == PlanState.ACTIVE
        return InstantField().to_representation(plan.run_after) if live else None


class ProgressSerializer(serializers.Serializer[PlanProgress]):
    """What became of the plan's slots so far."""

    # Wants `market` in its context.

    settled = serializers.IntegerField()
    skipped = serializers.IntegerField()
    failed = serializers.IntegerField()
    under_way = serializers.IntegerField()
    spent = AmountField(asset=_SOLD, source="spent_units", help_text="By settled slots, fees included.")
    spent_units = UnitsStringField()
    fees = AmountField(asset=_SOLD, source="fee_units")
    fees_units = UnitsStringField(source="fee_units")
    received = AmountField(asset=_BOUGHT, source="received_units")
    received_units = UnitsStringField()
    promised = AmountField(asset=_SOLD, source="under_way_units", help_text="To slots that are under way.")
    promised_units = UnitsStringField(source="under_way_units")


class PlanDetailSerializer(PlanSerializer):
    """A plan with its progress."""

    # Wants `progress` in its context.

    progress = serializers.SerializerMethodField()

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, plan: Plan) -> Any:
        return ProgressSerializer(self.context["progress"], context={"market": plan.market}).data


class AttemptSerializer(serializers.Serializer[TransactionAttempt]):
    number = serializers.IntegerField()
    kind = serializers.ChoiceField(
        choices=AttemptKind.choices,
        help_text="The intent itself, a replacement with higher fees, or a cancellation.",
    )
    hash = serializers.CharField()
    sent_at = InstantField(allow_null=True)


class SlotTransactionSerializer(serializers.Serializer[OutboundTransaction]):
    id = serializers.UUIDField()
    hash = serializers.SerializerMethodField(help_text="Of what was mined; empty until then.")
    state = serializers.ChoiceField(choices=TransactionState.choices)
    block_number = serializers.IntegerField(allow_null=True)

    def get_hash(self, transaction: OutboundTransaction) -> str:
        return transaction.attempt.hash if transaction.attempt is not None else ""


class SlotTransactionDetailSerializer(SlotTransactionSerializer):
    block_hash = serializers.CharField()
    confirmations = serializers.SerializerMethodField(
        help_text="Blocks on it, its own included, as we know them."
    )
    confirmations_needed = serializers.IntegerField(source="network.confirmations")
    attempts = AttemptSerializer(source="attempts_made", many=True)

    def get_confirmations(self, transaction: OutboundTransaction) -> int:
        seen = transaction.network.watched_block
        if transaction.block_number is None or seen is None:
            return 0
        return int(max(0, seen - transaction.block_number + 1))


class SlotSerializer(serializers.Serializer[Slot]):
    id = serializers.UUIDField()
    plan_id = serializers.UUIDField()
    number = serializers.IntegerField()
    market = MarketPairSerializer()
    scheduled_at = InstantField()
    state = serializers.ChoiceField(choices=SlotState.choices)
    reason = serializers.ChoiceField(
        choices=["", *SlotReason.values], help_text="Why it ended as it did; empty while it has not."
    )
    amount = AmountField(asset=_SOLD, source="amount_units")
    amount_units = UnitsStringField()
    fee = AmountField(asset=_SOLD, source="fee_units", allow_null=True)
    fee_units = UnitsStringField(allow_null=True)
    swapped = AmountField(asset=_SOLD, source="swap_units", allow_null=True)
    swapped_units = UnitsStringField(source="swap_units", allow_null=True)
    received = AmountField(asset=_BOUGHT, source="received_units", allow_null=True)
    received_units = UnitsStringField(allow_null=True)
    price = serializers.SerializerMethodField(
        help_text="Paid for one whole bought coin, without the fee, rounded up."
    )
    transaction = SlotTransactionSerializer(source="batch.transaction", allow_null=True)
    created_at = InstantField()
    closed_at = InstantField(allow_null=True)

    @extend_schema_field({"type": ["string", "null"], "examples": ["2512.34"]})
    def get_price(self, slot: Slot) -> str | None:
        return _price(slot.market, slot.swap_units, slot.received_units)


class JournalSerializer(serializers.Serializer[JournalReference]):
    id = serializers.UUIDField()
    kind = serializers.CharField()
    reference = serializers.CharField(help_text="As the statement shows it.")
    posted_at = InstantField()


class BatchSerializer(serializers.Serializer[Batch]):
    """The swap that the slot shares with others."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=BatchState.choices)
    reason = serializers.CharField()
    slots = serializers.IntegerField(source="slot_count")
    tries = serializers.IntegerField(source="try_number")
    amount_in = AmountField(asset=_SOLD, source="amount_in_units")
    amount_in_units = UnitsStringField()
    min_out = AmountField(
        asset=_BOUGHT,
        source="min_out_units",
        allow_null=True,
        help_text="With less the chain refuses the swap.",
    )
    min_out_units = UnitsStringField(allow_null=True)
    filled_in = AmountField(asset=_SOLD, source="filled_in_units", allow_null=True)
    filled_in_units = UnitsStringField(allow_null=True)
    filled_out = AmountField(asset=_BOUGHT, source="filled_out_units", allow_null=True)
    filled_out_units = UnitsStringField(allow_null=True)
    price = serializers.SerializerMethodField(help_text="Paid for one whole bought coin, rounded up.")
    settled_at = InstantField(allow_null=True)

    @extend_schema_field({"type": ["string", "null"], "examples": ["2512.34"]})
    def get_price(self, batch: Batch) -> str | None:
        return _price(batch.market, batch.filled_in_units, batch.filled_out_units)


class SlotWhySerializer(serializers.Serializer[Any]):
    code = serializers.CharField(
        help_text="Stable: fee, funds, reference, limit, quote, fill, or the reason."
    )
    text = serializers.CharField()


class SlotDetailSerializer(SlotSerializer):
    """One slot with everything that decided over it."""

    # Wants `record` in its context.

    plan_name = serializers.CharField(source="plan.name")
    why = serializers.SerializerMethodField()
    decision = serializers.SerializerMethodField(
        help_text="The record: the slot's own facts and those that its batch decided by. Integers are strings."
    )
    batch = serializers.SerializerMethodField()
    transaction = SlotTransactionDetailSerializer(source="batch.transaction", allow_null=True)
    journals = serializers.SerializerMethodField(help_text="What was booked for it, oldest first.")

    @extend_schema_field(SlotWhySerializer(many=True))
    def get_why(self, slot: Slot) -> Any:
        del slot
        return SlotWhySerializer(slot_why(self._record), many=True).data

    @extend_schema_field({"type": "object", "additionalProperties": {}})
    def get_decision(self, slot: Slot) -> Mapping[str, Any]:
        del slot
        return self._record.decision

    @extend_schema_field(BatchSerializer(allow_null=True))
    def get_batch(self, slot: Slot) -> Any:
        return None if slot.batch is None else BatchSerializer(slot.batch).data

    @extend_schema_field(JournalSerializer(many=True))
    def get_journals(self, slot: Slot) -> Any:
        del slot
        journals: Any = self._record.journals
        return JournalSerializer(journals, many=True).data

    @property
    def _record(self) -> SlotRecord:
        record: SlotRecord = self.context["record"]
        return record


class RunSerializer(serializers.Serializer[Run]):
    number = serializers.IntegerField()
    scheduled_at = InstantField()
    local_at = serializers.CharField(help_text="The same instant by the plan's own clock, with its offset.")
    amount = AmountField(asset=_SOLD, source="amount_units")
    amount_units = UnitsStringField()
    fee = AmountField(asset=_SOLD, source="fee_units")
    fee_units = UnitsStringField()
    swapped = AmountField(asset=_SOLD, source="swapped_units")
    swapped_units = UnitsStringField()


class NoticeSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(
        help_text="Stable: no_runs, paused, insufficient_funds, runway, below_minimum, dst_gap, dst_shift, month_end."
    )
    text = serializers.CharField()


class RunwaySerializer(serializers.Serializer[Any]):
    """How long the money lasts."""

    counted = serializers.CharField(help_text="What the runway counts and what it does not.")
    available = AmountField(asset="plan.market.sold_asset", source="available_units")
    available_units = UnitsStringField()
    funded_runs = serializers.IntegerField()
    funds_last_until = InstantField(allow_null=True, help_text="The last run that is paid for.")
    outlasts = serializers.BooleanField(help_text="Funds pay more runs than were looked at (1,000).")


class PreviewSerializer(serializers.Serializer[Preview]):
    description = serializers.CharField()
    runs = serializers.SerializerMethodField()
    runway = serializers.SerializerMethodField()
    budget_exhausted_at = InstantField(
        allow_null=True, help_text="The run that spends the last of the budget."
    )
    ends_at = InstantField(
        allow_null=True, help_text="The plan's last run, where it is within the look-ahead."
    )
    warnings = NoticeSerializer(many=True)

    @extend_schema_field(RunSerializer(many=True))
    def get_runs(self, preview: Preview) -> Any:
        runs: Any = preview.runs
        return RunSerializer(runs, many=True, context={"market": preview.plan.market}).data

    @extend_schema_field(RunwaySerializer)
    def get_runway(self, preview: Preview) -> Any:
        return RunwaySerializer(preview).data


def _price(market: Market, sold_units: int | None, bought_units: int | None) -> str | None:
    units = price_units(
        sold_units=sold_units, bought_units=bought_units, bought_decimals=market.bought_asset.decimals
    )
    return None if units is None else amount_format(units, decimals=market.sold_asset.decimals)
