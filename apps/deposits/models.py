"""Addresses, what was seen to arrive at them, how far each network was looked at, and collecting it."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.chain.models import Network, OutboundTransaction, RpcEndpoint, Token
from apps.core import clock
from apps.core.fields import AddressField, HashField, UnitsField
from apps.core.ids import uuid7
from apps.core.models import Asset, WorkItem
from apps.deposits.domain import DepositKind, DepositState, SweepState, UnsupportedReason


class DepositAddress(models.Model):
    """A person's address, the same on every network. `index` is its place below the extended public key."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="deposit_address"
    )
    index = models.BigIntegerField(unique=True, editable=False)
    address = AddressField(unique=True, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(index__gte=0), name="deposits_address_index")]
        verbose_name_plural = "deposit addresses"

    def __str__(self) -> str:
        return str(self.address)


class DepositRule(models.Model):
    """How deposits of an asset are treated. An asset without a rule is not accepted."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    asset = models.OneToOneField(Asset, on_delete=models.PROTECT, related_name="deposit_rule")
    enabled = models.BooleanField(default=True)
    minimum_units = UnitsField(help_text="Less waits until it adds up to this.")
    credit_measured = models.BooleanField(
        default=False,
        help_text="For tokens that take a fee on transfer: credit what the balance grew by, whatever was announced.",
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(minimum_units__gte=1), name="deposits_rule_minimum")
        ]

    def __str__(self) -> str:
        return f"deposits of {self.asset_id}"


class Paced(WorkItem):
    """Work that reads blocks, `window` at once: it shrinks when a node refuses and grows when it answers.

    `window_refused` is the size that was too much lately, `window_calm` how many answers came since.
    """

    window = models.PositiveIntegerField(default=200)
    window_refused = models.PositiveIntegerField(null=True, blank=True, editable=False)
    window_calm = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        abstract = True


class Scan(Paced):
    """How far a network was looked at. Blocks below `next_block` were read; `block_hash` is that of the last one.

    `pokes` counts requests to look at once. `scanned_at` is when everything up to the head was read last, by
    PostgreSQL's clock; `stalled_at` is set while that is too long ago, and was told.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.OneToOneField(Network, on_delete=models.CASCADE, related_name="scan")
    state = models.CharField(max_length=16, default="scanning")
    pokes = models.BigIntegerField(default=0)
    next_block = models.BigIntegerField(null=True, blank=True)
    block_hash = models.CharField(max_length=66, blank=True)
    # Blocks below this were read a second time, when they were final: what a node dropped at first is found then.
    next_final_block = models.BigIntegerField(null=True, blank=True)
    # Which endpoint read first what is not read a second time yet: [first block, endpoint id], ascending. The second
    # reading asks another one, if there is one.
    first_readers = models.JSONField(default=list, editable=False)
    read_by = models.ForeignKey(
        RpcEndpoint, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    read_again_by = models.ForeignKey(
        RpcEndpoint, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    traces = models.BooleanField(
        null=True, blank=True, help_text="Whether the nodes offer traces; empty: not tried yet."
    )
    scanned_at = models.DateTimeField(db_default=Now(), editable=False)
    stalled_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"scan of {self.network_id}"


class Rescan(Paced):
    """A range of final blocks to read again: an address had something before it was opened, or somebody asked.

    `asked`: the address is new, and nobody has looked yet whether it had; when it had nothing the row goes.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.CASCADE, related_name="rescans")
    # Whose history this is; arrivals up to `to_block` are nobody's. Empty: somebody asked for the range.
    address = models.ForeignKey(
        DepositAddress,
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="rescans",
    )
    state = models.CharField(
        max_length=16, choices=[("asked", "Asked"), ("open", "Open"), ("done", "Done")], default="open"
    )
    from_block = models.BigIntegerField()
    to_block = models.BigIntegerField()
    next_block = models.BigIntegerField()
    found = models.PositiveIntegerField(default=0, help_text="Deposits that had not been known.")
    reason = models.CharField(max_length=200)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    from_block__gte=0, to_block__gte=F("from_block"), next_block__gte=F("from_block")
                ),
                name="deposits_rescan_range",
            )
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state__in=["asked", "open"]),
                name="deposits_rescan_due",
            )
        ]

    def __str__(self) -> str:
        return f"rescan {self.from_block} to {self.to_block}"


class Deposit(WorkItem):
    """Value that a block moved to one of our addresses.

    Identity: network, transaction, kind and position within the transaction; the block may change in a reorg
    (`sighting` counts that). For tokens `position` is the log's place among the transaction's logs; for native coin
    0; for internal transfers the place among the transaction's calls that move value (see `chain.traces`).
    `amount_units` is what was announced, `measured_units` by how much the balance really grew, `credited_units` what
    the person has because of it.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="deposits")
    address = models.ForeignKey(DepositAddress, on_delete=models.PROTECT, related_name="deposits")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="deposits")
    # Null for a token that is not on the allow-list; `contract` names it. Empty contract: the native coin.
    asset = models.ForeignKey(Asset, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    contract = models.CharField(max_length=42, blank=True)
    kind = models.CharField(max_length=10, choices=DepositKind.choices)
    transaction_hash = HashField()
    position = models.PositiveIntegerField()
    sender = AddressField()
    amount_units = UnitsField()
    measured_units = UnitsField(null=True, blank=True)
    credited_units = UnitsField(default=0, db_default=0)
    # After a freeze: how much of the credit could not be taken back, which the person owes.
    owed_units = UnitsField(default=0, db_default=0)
    # How much of that was written off since; a later credit makes it good first.
    written_off_units = UnitsField(default=0, db_default=0)
    state = models.CharField(max_length=12, choices=DepositState.choices, default=DepositState.SEEN)
    reason = models.CharField(max_length=40, blank=True, choices=UnsupportedReason.choices)
    block_number = models.BigIntegerField()
    block_hash = HashField()
    block_time = models.DateTimeField(null=True, blank=True)
    sighting = models.PositiveIntegerField(default=1)
    # What was final when a node last proved that it is in its block: stands in for headers that were let go since.
    checked_block = models.BigIntegerField(null=True, blank=True)
    credited_at = models.DateTimeField(null=True, blank=True)
    # Credited and collected, and since then on no chain that we hold: there is nothing to take it back from. The
    # network was halted for it once; it counts again when its transaction is seen in another block.
    gone_at = models.DateTimeField(null=True, blank=True)
    # Credit by hand (and writing off a debt) takes two operators: one asks and says why, another approves.
    hand_requested_by = models.CharField(max_length=254, blank=True)
    hand_requested_at = models.DateTimeField(null=True, blank=True)
    hand_units = UnitsField(null=True, blank=True)
    hand_note = models.CharField(max_length=300, blank=True)
    hand_approved_by = models.CharField(max_length=254, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["network", "transaction_hash", "kind", "position"], name="deposits_deposit_identity"
            ),
            models.CheckConstraint(condition=Q(state__in=DepositState.values), name="deposits_deposit_state"),
            models.CheckConstraint(
                condition=Q(
                    amount_units__gt=0, credited_units__gte=0, owed_units__gte=0, written_off_units__gte=0
                ),
                name="deposits_deposit_units",
            ),
            models.CheckConstraint(
                condition=(
                    Q(state="credited", credited_units__gt=0, asset__isnull=False) | ~Q(state="credited")
                ),
                name="deposits_deposit_credited",
            ),
            models.CheckConstraint(
                condition=Q(hand_approved_by="") | ~Q(hand_approved_by=F("hand_requested_by")),
                name="deposits_deposit_four_eyes",
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state="seen"),
                name="deposits_deposit_to_check",
            ),
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state="confirming"),
                name="deposits_deposit_to_credit",
            ),
            models.Index(
                fields=["network", "block_number"],
                condition=Q(buried_at__isnull=True, state="confirming"),
                name="deposits_deposit_ready",
            ),
            models.Index(
                fields=["user", "asset"], condition=Q(owed_units__gt=0), name="deposits_deposit_debts"
            ),
            models.Index(
                fields=["gone_at"], condition=Q(gone_at__isnull=False), name="deposits_deposit_gone"
            ),
            models.Index(fields=["network", "block_number"], name="deposits_deposit_block"),
            models.Index(fields=["user", "created_at", "id"], name="deposits_deposit_listing"),
            models.Index(
                fields=["user", "asset"], condition=Q(state="ignored"), name="deposits_deposit_ignored"
            ),
            models.Index(
                fields=["created_at", "id"],
                condition=Q(state="unsupported"),
                name="deposits_deposit_unsupported",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.transaction_hash[:10]}…/{self.position}"


class Holding(models.Model):
    """What the books say lies at an address and was not collected yet, per asset; never below zero.

    Written in the transaction of the credit, the reversal, the sweep's booking, the top-up's and the gas's.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    address = models.ForeignKey(DepositAddress, on_delete=models.PROTECT, related_name="holdings")
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    units = UnitsField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["asset", "address"], name="deposits_holding_key"),
            models.CheckConstraint(condition=Q(units__gte=0), name="deposits_holding_units"),
        ]
        indexes = [
            models.Index(fields=["asset", "units"], condition=Q(units__gt=0), name="deposits_holding_largest")
        ]

    def __str__(self) -> str:
        return f"{self.units} at {self.address_id}"


class Sweep(WorkItem):
    """Collecting one asset from one address. At most one is open per address and asset."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="sweeps")
    token = models.ForeignKey(Token, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    address = models.ForeignKey(DepositAddress, on_delete=models.PROTECT, related_name="sweeps")
    units = UnitsField(help_text="What the transfer moves.")
    received_units = UnitsField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=SweepState.choices, default=SweepState.PLANNED)
    reason = models.CharField(max_length=200, blank=True)
    gas_top_up_units = UnitsField(default=0, db_default=0)
    funding = models.ForeignKey(
        OutboundTransaction, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    transaction = models.ForeignKey(
        OutboundTransaction, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["address", "asset"],
                condition=Q(state__in=["planned", "funding", "sweeping"]),
                name="deposits_sweep_open",
            ),
            models.CheckConstraint(condition=Q(state__in=SweepState.values), name="deposits_sweep_state"),
            models.CheckConstraint(
                condition=Q(units__gt=0, gas_top_up_units__gte=0), name="deposits_sweep_units"
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state__in=["planned", "funding", "sweeping"]),
                name="deposits_sweep_due",
            )
        ]

    def __str__(self) -> str:
        return f"sweep of {self.units} from {self.address_id}"
