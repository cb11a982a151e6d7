"""Swap venues and their health, markets and their routes, price feeds, the latest price per market."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.core import clock
from apps.core.fields import AddressField, Uint256Field
from apps.core.ids import uuid7


class Venue(models.Model):
    """A deployment of a swap protocol on one network. What it is able to do follows from `kind`."""

    class Kind(models.TextChoices):
        UNISWAP_V2 = "uniswap_v2", "Uniswap V2"
        UNISWAP_V3 = "uniswap_v3", "Uniswap V3"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey("chain.Network", on_delete=models.PROTECT, related_name="venues")
    kind = models.CharField(max_length=16, choices=Kind)
    name = models.CharField(max_length=80)
    router_address = AddressField()
    factory_address = AddressField()
    quoter_address = AddressField(blank=True, default="", help_text="QuoterV2; Uniswap V3 only.")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["network", "name"], name="providers_venue_name"),
            models.UniqueConstraint(fields=["network", "router_address"], name="providers_venue_router"),
            models.CheckConstraint(
                condition=Q(kind="uniswap_v2") | (Q(kind="uniswap_v3") & ~Q(quoter_address="")),
                name="providers_venue_kind_has_contracts",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class VenueHealth(models.Model):
    """The breaker of a venue, shared by every process; instants are PostgreSQL's clock, as for leases.

    Closed while `open_until` is null. Open until that instant; after it, one caller at a time takes the probe
    (`probe_until`) and its outcome closes the breaker or opens it for longer.
    """

    venue = models.OneToOneField(Venue, on_delete=models.CASCADE, primary_key=True, related_name="health")
    consecutive_failures = models.PositiveIntegerField(default=0, db_default=0)
    times_opened = models.PositiveIntegerField(default=0, db_default=0)
    open_until = models.DateTimeField(null=True, blank=True)
    probe_until = models.DateTimeField(null=True, blank=True)
    last_success_at = models.DateTimeField(null=True, blank=True)
    last_failure_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="", db_default="")
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "venue health"

    def __str__(self) -> str:
        return f"{self.venue_id}: {'closed' if self.open_until is None else 'open'}"


class Market(models.Model):
    """What may be sold for what on one network: the key by which due slots are batched into one swap."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.ForeignKey("chain.Network", on_delete=models.PROTECT, related_name="markets")
    sold_asset = models.ForeignKey("core.Asset", on_delete=models.PROTECT, related_name="markets_selling")
    bought_asset = models.ForeignKey("core.Asset", on_delete=models.PROTECT, related_name="markets_buying")
    enabled = models.BooleanField(default=True)
    min_trade_units = Uint256Field(
        default=1, help_text="Smallest amount of one plan's buy, in the sold asset."
    )
    guard_bps = models.PositiveIntegerField(
        default=100, help_text="How far below the reference price a swap may fill, in basis points."
    )
    max_batch_slots = models.PositiveIntegerField(default=5_000, help_text="Most slots that share one swap.")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["network", "sold_asset", "bought_asset"], name="providers_market_pair"
            ),
            models.CheckConstraint(
                condition=~Q(sold_asset=F("bought_asset")), name="providers_market_two_assets"
            ),
            models.CheckConstraint(condition=Q(min_trade_units__gte=1), name="providers_market_min_trade"),
            models.CheckConstraint(condition=Q(guard_bps__lt=10_000), name="providers_market_guard_range"),
            models.CheckConstraint(condition=Q(max_batch_slots__gte=1), name="providers_market_batch_size"),
        ]

    def __str__(self) -> str:
        return f"{self.sold_asset.code} → {self.bought_asset.code}"


class MarketRoute(models.Model):
    """One way through a venue: token addresses from sold to bought, and for V3 the pool fee of each hop."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    market = models.ForeignKey(Market, on_delete=models.CASCADE, related_name="routes")
    venue = models.ForeignKey(Venue, on_delete=models.PROTECT, related_name="routes")
    path = ArrayField(AddressField())
    pool_fees = ArrayField(
        models.PositiveIntegerField(),
        default=list,
        blank=True,
        help_text="Hundredths of a basis point per hop.",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["market", "venue", "path", "pool_fees"], name="providers_marketroute_once"
            ),
            models.CheckConstraint(condition=Q(path__len__gte=2), name="providers_marketroute_path_length"),
        ]

    def __str__(self) -> str:
        return f"{self.venue_id} {' → '.join(self.path)}"


class PriceFeed(models.Model):
    """A Chainlink-shaped aggregator (AggregatorV3Interface) that prices one asset in `quote_currency`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    asset = models.OneToOneField("core.Asset", on_delete=models.PROTECT, related_name="price_feed")
    network = models.ForeignKey("chain.Network", on_delete=models.PROTECT, related_name="price_feeds")
    aggregator_address = AddressField()
    quote_currency = models.CharField(max_length=8, default="USD")
    max_age_seconds = models.PositiveIntegerField(default=3_900, help_text="Older answers are refused.")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(max_age_seconds__gte=1), name="providers_pricefeed_max_age")
        ]

    def __str__(self) -> str:
        return f"{self.asset_id} in {self.quote_currency}"


class PriceSnapshot(models.Model):
    """The latest reference price of a market, so that no request waits for the chain. Refreshed by beat.

    `numerator / denominator` is bought units per sold unit; `gas_numerator / gas_denominator` is sold units
    per native base unit; `gas_price_units` and `swap_gas_units` estimate what one swap burns.
    """

    market = models.OneToOneField(
        Market, on_delete=models.CASCADE, primary_key=True, related_name="price_snapshot"
    )
    numerator = Uint256Field()
    denominator = Uint256Field()
    gas_numerator = Uint256Field()
    gas_denominator = Uint256Field()
    gas_price_units = Uint256Field()
    swap_gas_units = models.PositiveBigIntegerField()
    block_number = models.PositiveBigIntegerField()
    # The older of the two feeds' rounds: when the price was true. `refreshed_at` is when we looked.
    observed_at = models.DateTimeField()
    refreshed_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(numerator__gt=0, denominator__gt=0, gas_numerator__gt=0, gas_denominator__gt=0),
                name="providers_pricesnapshot_positive",
            )
        ]

    def __str__(self) -> str:
        return f"{self.market_id} at block {self.block_number}"


class VenueAllowance(models.Model):
    """How far a wallet's approval of a venue's router has come: one row is what two processes lock.

    `round` numbers the approvals asked for, so that each has a reference of its own and none is asked twice.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    venue = models.ForeignKey(Venue, on_delete=models.PROTECT, related_name="allowances")
    asset = models.ForeignKey("core.Asset", on_delete=models.PROTECT, related_name="+")
    wallet = models.ForeignKey("chain.Wallet", on_delete=models.PROTECT, related_name="+")
    round = models.PositiveIntegerField(default=0)
    transaction = models.ForeignKey(
        "chain.OutboundTransaction", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["venue", "asset", "wallet"], name="providers_venueallowance_once")
        ]

    def __str__(self) -> str:
        return f"{self.venue_id} {self.asset_id} {self.wallet_id} round {self.round}"
