"""Where people may withdraw to, on what terms, each withdrawal, and who approved it."""

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from apps.chain.models import Network, OutboundTransaction
from apps.core import clock
from apps.core.fields import AddressField, Uint256Field, UnitsField
from apps.core.ids import uuid7
from apps.core.models import Asset, WorkItem
from apps.withdrawals.domain import FINAL, RELEASING, Reason, Wait, WithdrawalState

_FINAL = sorted(str(state) for state in FINAL)
# What counts towards limits: everything but what came back.
COUNTED = ~Q(state__in=sorted(str(state) for state in RELEASING))


class WithdrawalRule(models.Model):
    """The terms of one asset, in its base units. An asset without a rule cannot be withdrawn.

    Its row lock is what limits are counted under (`limits.rule_lock`).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    asset = models.OneToOneField(Asset, on_delete=models.PROTECT, related_name="withdrawal_rule")
    enabled = models.BooleanField(default=True)
    minimum_units = UnitsField(help_text="The least that may arrive, after the fee.")
    flat_fee_units = UnitsField(default=0)
    gas_units = models.PositiveBigIntegerField(
        default=65_000,
        help_text="Units of gas that a quote counts with; 0: the platform pays the gas.",
    )
    gas_limit_cap = models.PositiveBigIntegerField(
        default=200_000,
        validators=[MinValueValidator(21_000)],
        help_text="A transfer that would need more is not sent.",
    )
    person_daily_units = UnitsField(help_text="What one person may withdraw within 24 hours.")
    platform_hourly_units = UnitsField(help_text="What everybody together may withdraw within an hour.")
    approval_above_units = UnitsField(
        null=True, blank=True, help_text="More than this needs two operators. Empty: nothing does."
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    minimum_units__gte=1,
                    flat_fee_units__gte=0,
                    person_daily_units__gte=0,
                    platform_hourly_units__gte=0,
                    gas_limit_cap__gte=21_000,
                )
                & (Q(approval_above_units__isnull=True) | Q(approval_above_units__gte=0)),
                name="withdrawals_rule_units",
            )
        ]

    def __str__(self) -> str:
        return f"withdrawals of {self.asset_id}"


class WithdrawalDestination(models.Model):
    """An address that a person allows withdrawals to, from `usable_at` on. Removed ones stay, marked."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="withdrawal_destinations"
    )
    address = AddressField()
    label = models.CharField(max_length=80)
    usable_at = models.DateTimeField()
    created_at = models.DateTimeField(default=clock.now, editable=False)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "address"],
                condition=Q(removed_at__isnull=True),
                name="withdrawals_destination_once",
            ),
            models.CheckConstraint(
                condition=Q(usable_at__gte=F("created_at")), name="withdrawals_destination_wait"
            ),
        ]
        indexes = [
            models.Index(
                fields=["user", "created_at", "id"],
                condition=Q(removed_at__isnull=True),
                name="withdrawals_dest_listing",
            )
        ]

    def __str__(self) -> str:
        return f"{self.label}: {self.address}"


class Withdrawal(WorkItem):
    """Money on its way out. `amount_units` leaves the account; `amount = fee + sent`, all in the asset's base units.

    `fee_units` is the quote and the most that is taken; `charged_units` what was, known at the end. The gas price
    of the quote (`gas_numerator / gas_denominator`, units of the asset per wei) stays with the row, so that the
    actual fee can be computed by anybody, again.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="withdrawals")
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="withdrawals")
    destination = AddressField()
    amount_units = UnitsField()
    fee_units = UnitsField()
    sent_units = UnitsField()
    flat_fee_units = UnitsField(default=0)
    gas_numerator = Uint256Field(default=0)
    gas_denominator = Uint256Field(default=1)
    gas_cost_units = UnitsField(null=True, blank=True, help_text="Gas burnt, in wei.")
    charged_units = UnitsField(null=True, blank=True, help_text="The fee that was taken in the end.")
    state = models.CharField(
        max_length=24, choices=WithdrawalState.choices, default=WithdrawalState.REQUESTED, editable=False
    )
    reason = models.CharField(max_length=32, blank=True, choices=Reason.choices, editable=False)
    detail = models.CharField(max_length=300, blank=True, default="", editable=False)
    wait_reason = models.CharField(max_length=24, blank=True, choices=Wait.choices, editable=False)
    confirmation_failures = models.PositiveSmallIntegerField(default=0, editable=False)
    transaction = models.OneToOneField(
        OutboundTransaction,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="withdrawal",
        editable=False,
    )
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=WithdrawalState.values), name="withdrawals_withdrawal_state"
            ),
            models.CheckConstraint(
                condition=Q(
                    sent_units__gt=0,
                    flat_fee_units__gte=0,
                    fee_units__gte=F("flat_fee_units"),
                    amount_units=F("sent_units") + F("fee_units"),
                    gas_numerator__gte=0,
                    gas_denominator__gte=1,
                ),
                name="withdrawals_withdrawal_units",
            ),
            models.CheckConstraint(
                condition=Q(state__in=_FINAL, closed_at__isnull=False)
                | (~Q(state__in=_FINAL) & Q(closed_at__isnull=True)),
                name="withdrawals_withdrawal_closed",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["sending", "sent", "confirmed"]) | Q(transaction__isnull=False),
                name="withdrawals_withdrawal_transaction",
            ),
            models.CheckConstraint(
                condition=Q(state="confirmed", charged_units__gte=0, charged_units__lte=F("fee_units"))
                | (~Q(state="confirmed") & Q(charged_units__isnull=True)),
                name="withdrawals_withdrawal_charged",
            ),
            models.CheckConstraint(
                condition=Q(wait_reason="") | Q(state="approved"), name="withdrawals_withdrawal_wait"
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state="requested"),
                name="withdrawals_to_check",
            ),
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state="approved"),
                name="withdrawals_to_send",
            ),
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state__in=["sending", "sent"]),
                name="withdrawals_to_settle",
            ),
            models.Index(fields=["user", "created_at", "id"], name="withdrawals_listing"),
            models.Index(fields=["asset", "created_at"], condition=COUNTED, name="withdrawals_counted"),
            models.Index(
                fields=["user", "asset", "created_at"], condition=COUNTED, name="withdrawals_counted_person"
            ),
            models.Index(
                fields=["asset", "state"], condition=Q(closed_at__isnull=True), name="withdrawals_open"
            ),
        ]

    def __str__(self) -> str:
        return f"withdrawal {self.pk}"


class WithdrawalApproval(models.Model):
    """One operator's word that a withdrawal may leave."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    withdrawal = models.ForeignKey(Withdrawal, on_delete=models.PROTECT, related_name="approvals")
    operator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    note = models.CharField(max_length=300)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["withdrawal", "operator"], name="withdrawals_approval_once")
        ]

    def __str__(self) -> str:
        return f"{self.operator_id} for {self.withdrawal_id}"
