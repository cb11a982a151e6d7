"""Plans, slots and batches: the main job. States, their transitions, and the constraints that hold them."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from apps.core.fields import UnitsField
from apps.core.ids import uuid7
from apps.core.models import WorkItem
from apps.plans.missed import MissedPolicy


class PlanState(models.TextChoices):
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class SlotState(models.TextChoices):
    OPEN = "open"  # due and recorded; funds not looked at yet
    RESERVED = "reserved"  # its amount is held in the ledger
    BATCHED = "batched"  # part of a swap that is being priced, sent or watched
    SETTLED = "settled"  # bought: final
    SKIPPED = "skipped"  # not bought, by rule: final
    FAILED = "failed"  # not bought, although it should have been: final


class SlotReason(models.TextChoices):
    """Why a slot ended as it did: the machine-readable answer to “why did it not buy?”."""

    FILLED = "filled"
    MISSED = "missed", "Missed while the platform was away; the plan's policy skips it"
    BUDGET_EXHAUSTED = "budget_exhausted", "The plan's budget was already committed"
    INSUFFICIENT_FUNDS = "insufficient_funds", "Available funds were below the amount"
    BELOW_MINIMUM = "below_minimum", "What the fee leaves is below the market's minimum trade"
    PRICE_ABOVE_LIMIT = "price_above_limit", "The price was above the plan's upper limit"
    PRICE_BELOW_LIMIT = "price_below_limit", "The price was below the plan's lower limit"
    PRICE_GUARD = "price_guard", "The best quote was further from the reference price than allowed"
    PLAN_PAUSED = "plan_paused", "The plan was paused before the buy"
    PLAN_CANCELLED = "plan_cancelled", "The plan was cancelled before the buy"
    MARKET_DISABLED = "market_disabled", "The market was switched off"
    PAUSED = "paused", "Buying with or of this asset, or all buying, was paused by the platform"
    ACCOUNT_FROZEN = (
        "account_frozen",
        "The account was frozen: what was deposited was taken back by the chain",
    )
    AWAITING_COLLECTION_TIMEOUT = (
        "awaiting_collection_timeout",
        "The money was not collected from deposit addresses in time",
    )
    SWAP_REVERTED = "swap_reverted", "The swap reverted on chain each time it was tried"
    NO_QUOTE = "no_quote", "No venue and price could be had in time"
    TRANSACTION_REFUSED = "transaction_refused", "The transaction could not be signed or sent"


FINAL_SLOT_STATES = (SlotState.SETTLED, SlotState.SKIPPED, SlotState.FAILED)


# Why a batch that is being priced waits: what it would sell still lies at deposit addresses.
AWAITING_COLLECTION = "awaiting_collection"


class BatchState(models.TextChoices):
    PRICING = "pricing"  # slots assigned; waits for reference price and quotes
    SENDING = "sending"  # its swap is an outbound transaction
    SETTLED = "settled"
    CLOSED = "closed"  # no slot was left to buy for, or the swap failed for good


class Plan(WorkItem):
    """Buy for `amount_units` of the market's sold asset at each occurrence of a schedule.

    As a work item its step is “open the slots that are due”; `run_after` is the next occurrence. The wall-clock
    rule, the zone and the anchor are stored, never a computed series (design.md, “Schedules”).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="plans")
    market = models.ForeignKey("providers.Market", on_delete=models.PROTECT, related_name="plans")
    name = models.CharField(max_length=80)
    state = models.CharField(max_length=16, choices=PlanState, default=PlanState.ACTIVE)
    state_reason = models.CharField(max_length=32, blank=True, default="", db_default="")
    version = models.PositiveIntegerField(default=1, db_default=1)

    amount_units = UnitsField()
    total_budget_units = UnitsField(null=True, blank=True)
    # The sum of the amounts of slots that are not closed unbought: what the budget has already given out.
    committed_units = UnitsField(default=0, db_default=0)

    schedule_kind = models.CharField(max_length=8)
    interval = models.PositiveSmallIntegerField(default=1)
    local_time = models.TimeField(null=True, blank=True)
    weekdays = ArrayField(models.PositiveSmallIntegerField(), default=list, blank=True)
    month_day = models.PositiveSmallIntegerField(null=True, blank=True)
    cron = models.CharField(max_length=120, blank=True, default="")
    zone = models.CharField(max_length=64)
    start_at = models.DateTimeField(help_text="The anchor: no occurrence is before it.")
    end_at = models.DateTimeField(null=True, blank=True)
    max_runs = models.PositiveIntegerField(null=True, blank=True)
    next_number = models.PositiveIntegerField(default=1)

    # Prices are in the sold asset's base units for one whole unit of the bought asset.
    price_min_units = UnitsField(null=True, blank=True)
    price_max_units = UnitsField(null=True, blank=True)
    max_slippage_bps = models.PositiveIntegerField(default=100)

    missed_policy = models.CharField(
        max_length=8,
        choices=[(policy.value, policy.value) for policy in MissedPolicy],
        default=MissedPolicy.RUN_ONCE.value,
    )
    grace_seconds = models.PositiveIntegerField(default=86_400)
    run_all_limit = models.PositiveSmallIntegerField(default=10)
    misses_in_a_row = models.PositiveSmallIntegerField(default=0, db_default=0)

    class Meta:
        indexes = [
            models.Index(
                fields=["run_after", "market", "id"],
                condition=Q(state="active", buried_at__isnull=True),
                name="plans_plan_due_by_market",
            ),
            models.Index(fields=["owner", "-created_at", "-id"], name="plans_plan_of_owner"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(amount_units__gt=0), name="plans_plan_amount_positive"),
            models.CheckConstraint(
                condition=Q(total_budget_units__isnull=True) | Q(total_budget_units__gt=0),
                name="plans_plan_budget_positive",
            ),
            models.CheckConstraint(
                condition=Q(committed_units__gte=0)
                & (
                    Q(total_budget_units__isnull=True)
                    | Q(committed_units__lte=models.F("total_budget_units"))
                ),
                name="plans_plan_within_budget",
            ),
            models.CheckConstraint(
                condition=Q(end_at__isnull=True) | Q(end_at__gt=models.F("start_at")),
                name="plans_plan_ends_after_start",
            ),
            models.CheckConstraint(
                condition=Q(price_min_units__isnull=True)
                | Q(price_max_units__isnull=True)
                | Q(price_min_units__lte=models.F("price_max_units")),
                name="plans_plan_price_limits",
            ),
            models.CheckConstraint(
                condition=Q(max_slippage_bps__lte=5_000), name="plans_plan_slippage_range"
            ),
            models.CheckConstraint(condition=Q(state__in=PlanState.values), name="plans_plan_state"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.state})"


class Batch(WorkItem):
    """Slots of one market that share one swap: one quote, one guard, one transaction, gas paid once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    market = models.ForeignKey("providers.Market", on_delete=models.PROTECT, related_name="batches")
    state = models.CharField(max_length=16, choices=BatchState, default=BatchState.PRICING)
    reason = models.CharField(max_length=32, blank=True, default="", db_default="")
    try_number = models.PositiveSmallIntegerField(default=1)
    slot_count = models.PositiveIntegerField()
    amount_in_units = UnitsField()
    min_out_units = UnitsField(null=True, blank=True)
    # The shared half of the decision record: reference, quote, guard, versions.
    decision = models.JSONField(default=dict)
    transaction = models.OneToOneField(
        "chain.OutboundTransaction", on_delete=models.PROTECT, null=True, blank=True, related_name="batch"
    )
    filled_in_units = UnitsField(null=True, blank=True)
    filled_out_units = UnitsField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "batches"
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(state__in=["pricing", "sending"], buried_at__isnull=True),
                name="plans_batch_due",
            )
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=BatchState.values), name="plans_batch_state"),
            models.CheckConstraint(
                condition=~Q(state="sending") | Q(transaction__isnull=False),
                name="plans_batch_sending_has_tx",
            ),
            models.CheckConstraint(
                condition=~Q(state="settled")
                | Q(filled_in_units__isnull=False, filled_out_units__isnull=False, settled_at__isnull=False),
                name="plans_batch_settled_has_fill",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.market_id} × {self.slot_count} ({self.state})"


class Slot(WorkItem):
    """One occurrence of one plan, and its one outcome."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # The unique (plan, number) index serves the look-up by plan; no second one.
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="slots", db_index=False)
    number = models.PositiveIntegerField()
    # Copies of what the plan said when the slot opened: later edits of the plan do not reach back. The plan's own
    # foreign keys already prove that owner and market exist, so these two pay for no second proof per row.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="slots",
        db_index=False,
        db_constraint=False,
    )
    market = models.ForeignKey(
        "providers.Market",
        on_delete=models.PROTECT,
        related_name="slots",
        db_index=False,
        db_constraint=False,
    )
    scheduled_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=SlotState, default=SlotState.OPEN)
    reason = models.CharField(max_length=32, choices=SlotReason, blank=True, default="", db_default="")
    amount_units = UnitsField()
    fee_units = UnitsField(null=True, blank=True)
    swap_units = UnitsField(null=True, blank=True)
    received_units = UnitsField(null=True, blank=True)
    price_min_units = UnitsField(null=True, blank=True)
    price_max_units = UnitsField(null=True, blank=True)
    max_slippage_bps = models.PositiveIntegerField()
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, null=True, blank=True, related_name="slots")
    # The slot's own half of the decision record; the batch holds the shared half.
    decision = models.JSONField(default=dict)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            # Exactly the open and the reserved ones; the state is not named (`apps.plans.kinds`).
            models.Index(
                fields=["run_after", "market", "id"],
                condition=Q(batch__isnull=True, closed_at__isnull=True, buried_at__isnull=True),
                name="plans_slot_due_by_market",
            ),
            models.Index(fields=["owner", "-created_at", "-id"], name="plans_slot_of_owner"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["plan", "number"], name="plans_slot_once"),
            models.CheckConstraint(condition=Q(state__in=SlotState.values), name="plans_slot_state"),
            models.CheckConstraint(condition=Q(amount_units__gte=0), name="plans_slot_amount"),
            # Final exactly when it has a reason and a time of closing.
            models.CheckConstraint(
                condition=(
                    Q(state__in=["open", "reserved", "batched"], reason="", closed_at__isnull=True)
                    | (Q(state__in=["settled", "skipped", "failed"], closed_at__isnull=False) & ~Q(reason=""))
                ),
                name="plans_slot_outcome_complete",
            ),
            models.CheckConstraint(
                condition=~Q(state="settled") | Q(received_units__isnull=False, reason="filled"),
                name="plans_slot_settled_has_fill",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["reserved", "batched", "settled"])
                | Q(swap_units__gt=0, fee_units__gte=0),
                name="plans_slot_reserved_is_priced",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan_id} #{self.number} {self.state}"
