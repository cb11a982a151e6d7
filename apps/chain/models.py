"""Networks and how to reach them, tokens, wallets and their limits, outbound transactions, block headers."""

from typing import Any

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from apps.chain.domain import FINAL, AttemptKind, TransactionState
from apps.core import clock
from apps.core.fields import AddressField, HashField, UnitsField
from apps.core.ids import uuid7
from apps.core.keys import encrypted_column
from apps.core.models import Asset, WorkItem


def _one_of(column: str, values: Any) -> Q:
    return Q(**{f"{column}__in": sorted(str(value) for value in values)})


class Finality(models.TextChoices):
    """When a block counts as final."""

    DEPTH = "depth", "By confirmations"
    FINALIZED = "finalized", "By the finalized tag, and confirmations"


class Network(models.Model):
    """An EVM chain. `watched_block` is the tip of the headers that we hold: what confirmations count against."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    chain_id = models.BigIntegerField(unique=True, validators=[MinValueValidator(1)])
    name = models.CharField(max_length=60, unique=True)
    native_asset = models.OneToOneField(Asset, on_delete=models.PROTECT, related_name="native_network")
    confirmations = models.PositiveIntegerField(
        default=3,
        validators=[MinValueValidator(1)],
        help_text="Depth at which a transaction is final; the tip is 1.",
    )
    block_time_seconds = models.PositiveSmallIntegerField(default=12)
    max_fee_cap_units = UnitsField(help_text="Highest fee per gas, in wei.")
    priority_fee_cap_units = UnitsField(help_text="Highest tip per gas, in wei.")
    gas_limit_cap = models.PositiveBigIntegerField(default=5_000_000)
    stuck_after_blocks = models.PositiveSmallIntegerField(default=5, validators=[MinValueValidator(1)])
    lag_blocks = models.PositiveSmallIntegerField(
        default=3, help_text="An endpoint further behind the others than this is passed over."
    )
    explorer_url = models.URLField(blank=True)
    watched_block = models.BigIntegerField(null=True, blank=True, editable=False)
    watched_hash = models.CharField(max_length=66, blank=True, editable=False)
    watched_at = models.DateTimeField(null=True, blank=True, editable=False)
    finality = models.CharField(
        max_length=10,
        choices=Finality.choices,
        default=Finality.DEPTH,
        help_text="What makes a block final: its depth, or the node's `finalized` tag (and depth too).",
    )
    reorg_limit = models.PositiveIntegerField(
        default=64,
        validators=[MinValueValidator(1)],
        help_text="A reorg that reaches deeper below the tip than this halts the network.",
    )
    # The highest block that is final and that no endpoint disputes: what deposits are credited up to.
    final_block = models.BigIntegerField(null=True, blank=True, editable=False)
    # Headers from here on are kept for a reader that is behind (the deposit monitor); null: nobody is.
    keep_from_block = models.BigIntegerField(null=True, blank=True, editable=False)
    halted_at = models.DateTimeField(null=True, blank=True)
    halted_reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(confirmations__gte=1), name="chain_network_confirmations"),
            models.CheckConstraint(
                condition=Q(max_fee_cap_units__gt=0, priority_fee_cap_units__gte=0), name="chain_network_caps"
            ),
            models.CheckConstraint(
                condition=_one_of("finality", Finality.values), name="chain_network_finality"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class NetworkWatch(WorkItem):
    """The recurring work of watching one network; `pokes` counts requests to look at once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.OneToOneField(Network, on_delete=models.CASCADE, related_name="watch")
    state = models.CharField(max_length=16, default="watching")
    pokes = models.BigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "network watches"

    def __str__(self) -> str:
        return f"watch of {self.network_id}"


class RpcEndpoint(models.Model):
    """A JSON-RPC endpoint. Its URL often holds a key, so it is encrypted; its breaker is shared through the row.

    `failures` counts failures in a row; from the threshold on the endpoint rests until `open_until` (PostgreSQL's
    clock), then one process at a time may probe it.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.CASCADE, related_name="endpoints")
    name = models.CharField(max_length=60)
    url_ciphertext = models.BinaryField()
    priority = models.PositiveSmallIntegerField(default=10, help_text="Lower is asked first.")
    enabled = models.BooleanField(default=True)
    failures = models.PositiveIntegerField(default=0, editable=False)
    open_until = models.DateTimeField(null=True, blank=True, editable=False)
    last_block = models.BigIntegerField(null=True, blank=True, editable=False)
    latency_ms = models.PositiveIntegerField(null=True, blank=True, editable=False)
    last_error = models.CharField(max_length=300, blank=True, editable=False)
    chain_checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["network", "name"], name="chain_rpcendpoint_name")]

    def __str__(self) -> str:
        return self.name


ENDPOINT_URL = encrypted_column("chain_rpcendpoint", "url_ciphertext")


class Token(models.Model):
    """An allow-listed ERC-20 contract, one-to-one with its asset; decimals were read on chain once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="tokens")
    asset = models.OneToOneField(Asset, on_delete=models.PROTECT, related_name="token")
    address = AddressField()
    decimals = models.PositiveSmallIntegerField(editable=False)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["network", "address"], name="chain_token_address")]

    def __str__(self) -> str:
        return f"{self.asset_id} at {self.address}"


class WalletRole(models.TextChoices):
    """What a wallet is for."""

    SWAP = "swap", "Swaps and payouts"
    TREASURY = "treasury", "Treasury"
    GAS = "gas", "Tops up gas"
    DEPOSIT = "deposit", "A person's deposit address"


class Wallet(models.Model):
    """A key pair of ours. The private key is encrypted under SIGNER_KEYS; only signing decrypts it.

    A deposit wallet has no key of its own here: signing derives it from the extended private key at
    `derivation_index`. It may send to our other wallets only (see `SignerRule`), so that no caps are kept for it.
    """

    Role = WalletRole

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    address = AddressField(unique=True)
    name = models.CharField(max_length=60, blank=True)
    role = models.CharField(max_length=16, choices=Role.choices)
    key_ciphertext = models.BinaryField(editable=False, null=True)
    derivation_index = models.BigIntegerField(null=True, blank=True, unique=True, editable=False)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=_one_of("role", WalletRole.values), name="chain_wallet_role"),
            models.CheckConstraint(
                condition=Q(role="deposit", derivation_index__isnull=False, key_ciphertext__isnull=True)
                | Q(~Q(role="deposit"), derivation_index__isnull=True, key_ciphertext__isnull=False),
                name="chain_wallet_key",
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.address


WALLET_KEY = encrypted_column("chain_wallet", "key_ciphertext", keyring="SIGNER_KEYS")


class WalletCap(models.Model):
    """What a wallet may move of an asset, per transaction and per UTC day. No row: nothing."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    wallet = models.ForeignKey(Wallet, on_delete=models.CASCADE, related_name="caps")
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    per_transaction_units = UnitsField()
    daily_units = UnitsField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["wallet", "asset"], name="chain_walletcap_asset"),
            models.CheckConstraint(
                condition=Q(per_transaction_units__gte=0, daily_units__gte=0), name="chain_walletcap_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.wallet_id} {self.asset_id}"


class WalletSpend(models.Model):
    """What the signer released on a day, counted in the transaction of the signature."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    wallet = models.ForeignKey(Wallet, on_delete=models.CASCADE, related_name="+")
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    day = models.DateField()
    units = UnitsField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["wallet", "asset", "day"], name="chain_walletspend_day"),
            models.CheckConstraint(condition=Q(units__gte=0), name="chain_walletspend_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.wallet_id} {self.day}"


class SignerRule(models.Model):
    """One line of the signer's allow-list: this contract, this function, and where its amount stands.

    The paths are dotted indexes into the decoded arguments (`0`, `2.0`, `0.4`; negative ones count from the
    end). `token_path` names the token that is spent (an address, or bytes that begin with one, as in a Uniswap
    V3 path); empty means the called contract. The value at `recipient_path` must be `recipient`, or the wallet
    itself when `recipient` is empty. An empty `amount_path` means that the call moves nothing but its value.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.CASCADE, related_name="signer_rules")
    to = AddressField()
    selector = models.CharField(max_length=10, help_text="0x and 8 hex digits; 0x alone is a plain transfer.")
    signature = models.CharField(max_length=300, blank=True, help_text="transfer(address,uint256)")
    wallet_role = models.CharField(max_length=16, choices=Wallet.Role.choices, blank=True)
    amount_path = models.CharField(max_length=20, blank=True)
    token_path = models.CharField(max_length=20, blank=True)
    recipient_path = models.CharField(max_length=20, blank=True)
    recipient = models.CharField(max_length=42, blank=True, default="")
    counts_daily = models.BooleanField(default=True, help_text="Off for approvals, which move nothing yet.")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["network", "to", "selector", "recipient", "wallet_role"],
                name="chain_signerrule_target",
            )
        ]

    def __str__(self) -> str:
        return f"{self.to} {self.signature or self.selector}"


class WalletNonce(models.Model):
    """The allocator: the next unused nonce of a wallet on a network. Its row lock serializes signing."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="+")
    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="+")
    first_nonce = models.BigIntegerField(help_text="The chain's pending count when we began.")
    next_nonce = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["network", "wallet"], name="chain_walletnonce_wallet"),
            models.CheckConstraint(
                condition=Q(next_nonce__gte=models.F("first_nonce")), name="chain_walletnonce_order"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.wallet_id} next {self.next_nonce}"


class OutboundTransaction(WorkItem):
    """An intent to do something on chain, and what became of it. One intent has one nonce at a time."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="transactions")
    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="transactions")
    state = models.CharField(
        max_length=12, choices=TransactionState.choices, default=TransactionState.QUEUED, editable=False
    )
    reference = models.CharField(max_length=120, unique=True)
    purpose = models.CharField(max_length=40)
    notify = models.CharField(max_length=80, blank=True)
    to = AddressField()
    data = models.TextField(default="0x")
    value_units = UnitsField(default=0)
    gas_limit = models.PositiveBigIntegerField()
    # Signed only when that one has its nonce: the chain then executes it before this one, which counts on it.
    after = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        editable=False,
    )
    next_attempt = models.CharField(
        max_length=12, choices=AttemptKind.choices, default=AttemptKind.ORIGINAL, editable=False
    )
    nonce = models.BigIntegerField(null=True, blank=True, editable=False)
    supersessions = models.PositiveSmallIntegerField(default=0, editable=False)
    reason = models.CharField(max_length=300, blank=True, editable=False)
    # What the chain says about it: set when mined, cleared when reorged out again.
    attempt = models.ForeignKey(
        "TransactionAttempt",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        editable=False,
    )
    block_number = models.BigIntegerField(null=True, blank=True, editable=False)
    block_hash = models.CharField(max_length=66, blank=True, editable=False)
    succeeded = models.BooleanField(null=True, editable=False)
    gas_used = models.BigIntegerField(null=True, blank=True, editable=False)
    effective_gas_price_units = UnitsField(null=True, blank=True, editable=False)
    logs = models.JSONField(default=list, editable=False)
    foreign_block = models.BigIntegerField(null=True, blank=True, editable=False)
    foreign_hash = models.CharField(max_length=66, blank=True, editable=False)
    finalized_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Set by the floors above, which alone know what it meant: its effects, and its gas, are in the ledger.
    booked_at = models.DateTimeField(null=True, blank=True, editable=False)
    gas_booked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["network", "wallet", "nonce"], name="chain_transaction_nonce"),
            models.CheckConstraint(
                condition=_one_of("state", TransactionState.values), name="chain_transaction_state"
            ),
            models.CheckConstraint(condition=Q(value_units__gte=0), name="chain_transaction_value"),
            models.CheckConstraint(
                condition=~Q(state__in=["mined", "confirmed", "reverted"])
                | Q(nonce__isnull=False, block_number__isnull=False, gas_used__isnull=False),
                name="chain_transaction_receipt",
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state="queued"),
                name="chain_transaction_to_sign",
            ),
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state="signed"),
                name="chain_transaction_to_send",
            ),
            models.Index(
                fields=["network", "nonce"],
                condition=Q(state__in=["queued", "signed", "sent", "mined", "superseded"]),
                name="chain_transaction_open",
            ),
            models.Index(fields=["network", "block_number"], name="chain_transaction_block"),
            models.Index(fields=["finalized_at", "id"], name="chain_transaction_final"),
            models.Index(
                fields=["network", "block_number"],
                condition=Q(booked_at__isnull=True) | Q(gas_booked_at__isnull=True),
                name="chain_transaction_unbooked",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.reference}"

    @property
    def is_final(self) -> bool:
        """Nothing will change any more: confirmed, reverted, cancelled or failed."""
        return self.state in FINAL

    @property
    def gas_cost_units(self) -> int:
        """What the network took, in native base units; 0 while not mined."""
        return (self.gas_used or 0) * (self.effective_gas_price_units or 0)


class TransactionAttempt(models.Model):
    """The exact bytes that were signed. Written before they leave; a retry sends these and nothing else."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    transaction = models.ForeignKey(
        OutboundTransaction, on_delete=models.PROTECT, related_name="attempts_made"
    )
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="+")
    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="+")
    nonce = models.BigIntegerField()
    number = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=12, choices=AttemptKind.choices)
    hash = HashField(unique=True)
    raw = models.BinaryField()
    max_fee_units = UnitsField()
    priority_fee_units = UnitsField()
    # Height at the (latest) broadcast: what "stuck for N blocks" counts from.
    sent_block = models.BigIntegerField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    broadcasts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["network", "wallet", "nonce", "number"], name="chain_attempt_number"
            )
        ]

    def __str__(self) -> str:
        return f"{self.hash} (nonce {self.nonce}, {self.kind} {self.number})"


class RecheckState(models.TextChoices):
    """How far looking for a transaction has come."""

    OPEN = "open", "Looked for"
    DECIDE = "decide", "Booked otherwise than it happened: an operator's turn"
    CLOSED = "closed", "Dealt with"


class Recheck(WorkItem):
    """A final transaction that a fork may have taken back: what was booked of it, and where it is now.

    Opened when an operator resumes a halted network; `apps.chain.rechecking` works on it. While one is open its
    network's books cannot be compared with the chain.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="+")
    transaction = models.ForeignKey(OutboundTransaction, on_delete=models.PROTECT, related_name="rechecks")
    state = models.CharField(max_length=8, choices=RecheckState.choices, default=RecheckState.OPEN)
    from_block = models.BigIntegerField(help_text="Headers from here on are held anew: it may be in any.")
    before = models.JSONField(help_text="What was final: state, place, moves, and what the gas cost.")
    after = models.JSONField(default=dict, blank=True)
    reopened_at = models.DateTimeField(null=True, blank=True, help_text="It was nowhere: sent again.")
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=120, blank=True)
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["transaction"], condition=Q(state="open"), name="chain_recheck_one_open"
            ),
            models.CheckConstraint(
                condition=_one_of("state", RecheckState.values), name="chain_recheck_state"
            ),
            models.CheckConstraint(
                condition=Q(state="closed", closed_at__isnull=False)
                | Q(~Q(state="closed"), closed_at__isnull=True),
                name="chain_recheck_closed",
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_after", "id"],
                condition=Q(buried_at__isnull=True, state="open"),
                name="chain_recheck_due",
            )
        ]

    def __str__(self) -> str:
        return f"recheck of {self.transaction_id}"


class Block(models.Model):
    """A header that an endpoint showed us. Orphaned ones stay, marked; one per height is canonical."""

    id = models.BigAutoField(primary_key=True)
    network = models.ForeignKey(Network, on_delete=models.CASCADE, related_name="+")
    number = models.BigIntegerField()
    hash = HashField()
    parent_hash = HashField()
    timestamp = models.BigIntegerField()
    orphaned_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["network", "hash"], name="chain_block_hash"),
            models.UniqueConstraint(
                fields=["network", "number"],
                condition=Q(orphaned_at__isnull=True),
                name="chain_block_canonical",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.hash}"
