"""Prices, quotes, fills and the guard as pure integers. Rounding always favours the person who buys."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import gcd
from typing import Any
from uuid import UUID

BPS_WHOLE = 10_000


@dataclass(frozen=True, slots=True)
class Ratio:
    """`numerator / denominator` units out per unit in: exact, positive, in lowest terms."""

    numerator: int
    denominator: int

    def __post_init__(self) -> None:
        if self.numerator <= 0 or self.denominator <= 0:
            raise ValueError("a ratio of amounts is positive")
        divisor = gcd(self.numerator, self.denominator)
        object.__setattr__(self, "numerator", self.numerator // divisor)
        object.__setattr__(self, "denominator", self.denominator // divisor)

    def floor(self, units: int) -> int:
        """`units` converted, rounded down."""
        return units * self.numerator // self.denominator

    def ceil(self, units: int) -> int:
        """`units` converted, rounded up."""
        return -(-units * self.numerator // self.denominator)

    def inverse(self) -> "Ratio":
        return Ratio(self.denominator, self.numerator)


@dataclass(frozen=True, slots=True)
class FeedAnswer:
    """One round of a Chainlink-shaped feed: price = answer / 10^decimals in the feed's currency."""

    asset_id: UUID
    aggregator: str
    round_id: int
    answer: int
    decimals: int
    updated_at: datetime

    def to_json(self) -> dict[str, Any]:
        return {
            "aggregator": self.aggregator,
            "round_id": str(self.round_id),
            "answer": str(self.answer),
            "decimals": self.decimals,
            "updated_at": self.updated_at.isoformat(),
        }


def feed_ratio(*, sold: FeedAnswer, bought: FeedAnswer, sold_decimals: int, bought_decimals: int) -> Ratio:
    """Bought base units per sold base unit, exactly, from the prices of one whole coin of each."""
    return Ratio(
        sold.answer * 10**bought.decimals * 10**bought_decimals,
        bought.answer * 10**sold.decimals * 10**sold_decimals,
    )


@dataclass(frozen=True, slots=True)
class ReferencePrice:
    """A price from outside the pool that is traded: bought units per sold unit.

    `observed_at` is when the older of its two feeds was last written; `native` converts base units of the
    network's gas coin into bought units.
    """

    ratio: Ratio
    native: Ratio
    observed_at: datetime
    block_number: int
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def numerator(self) -> int:
        return self.ratio.numerator

    @property
    def denominator(self) -> int:
        return self.ratio.denominator

    def to_json(self) -> dict[str, Any]:
        """JSON with every integer as a string: JavaScript would round them."""
        return {
            "numerator": str(self.numerator),
            "denominator": str(self.denominator),
            "observed_at": self.observed_at.isoformat(),
            "block_number": self.block_number,
            "source": dict(self.source),
        }


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """Where a swap goes: contracts of the venue, tokens of the path, fee of each V3 pool on the way."""

    route_id: UUID
    venue_id: UUID
    kind: str
    router: str
    quoter: str
    path: tuple[str, ...]
    pool_fees: tuple[int, ...]

    @property
    def hops(self) -> int:
        return len(self.path) - 1

    def to_json(self) -> dict[str, Any]:
        return {
            "route_id": str(self.route_id),
            "venue_id": str(self.venue_id),
            "kind": self.kind,
            "router": self.router,
            "quoter": self.quoter,
            "path": list(self.path),
            "pool_fees": list(self.pool_fees),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RouteSpec":
        return cls(
            route_id=UUID(value["route_id"]),
            venue_id=UUID(value["venue_id"]),
            kind=value["kind"],
            router=value["router"],
            quoter=value["quoter"],
            path=tuple(value["path"]),
            pool_fees=tuple(value["pool_fees"]),
        )


@dataclass(frozen=True, slots=True)
class RouteQuote:
    """What one venue answered for one route."""

    amount_out_units: int
    gas_units: int


@dataclass(frozen=True, slots=True)
class Quote:
    """The best route for an amount at a block. `net_units` is bought units after the gas is paid for."""

    market_id: UUID
    route: RouteSpec
    amount_in_units: int
    amount_out_units: int
    gas_units: int
    gas_price_units: int
    net_units: int
    quoted_block: int
    reference: ReferencePrice
    # Every route that was asked, with what it answered or why it cannot be used: for the decision record.
    considered: tuple[Mapping[str, Any], ...] = ()

    @property
    def venue_id(self) -> UUID:
        return self.route.venue_id

    @property
    def deviation_bps(self) -> int:
        return deviation_bps(
            amount_in_units=self.amount_in_units,
            amount_out_units=self.amount_out_units,
            reference=self.reference.ratio,
        )

    def to_json(self) -> dict[str, Any]:
        """The whole quote for a slot's or batch's decision record; integers as strings."""
        return {
            "market_id": str(self.market_id),
            "route": self.route.to_json(),
            "amount_in_units": str(self.amount_in_units),
            "amount_out_units": str(self.amount_out_units),
            "gas_units": str(self.gas_units),
            "gas_price_units": str(self.gas_price_units),
            "net_units": str(self.net_units),
            "quoted_block": self.quoted_block,
            "deviation_bps": self.deviation_bps,
            "reference": self.reference.to_json(),
            "considered": [dict(item) for item in self.considered],
        }


@dataclass(frozen=True, slots=True)
class SwapCall:
    """A contract call to hand to `chain.services.transaction_request`; `data` is 0x hex."""

    to: str
    data: str
    gas_limit: int


@dataclass(frozen=True, slots=True)
class Fill:
    """What a swap really moved, from the receipt: sold units spent and bought units received, net."""

    amount_in_units: int
    amount_out_units: int

    def to_json(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}


def min_out(reference: Ratio, amount_in_units: int, bps: int) -> int:
    """The fewest bought units to accept for `amount_in_units`: `bps` below the reference, rounded up.

    Rounded up because the person receives them. Raises `ValueError` outside 0 <= bps < 10000.
    """
    if not 0 <= bps < BPS_WHOLE:
        raise ValueError(f"bps outside 0..{BPS_WHOLE - 1}")
    return -(
        -amount_in_units * reference.numerator * (BPS_WHOLE - bps) // (reference.denominator * BPS_WHOLE)
    )


def deviation_bps(*, amount_in_units: int, amount_out_units: int, reference: Ratio) -> int:
    """How far an output is below the reference, in basis points rounded up; negative when it is better.

    Agrees with `min_out` to the unit: out >= min_out(reference, in, bps) exactly when deviation <= bps.
    """
    if amount_in_units <= 0:
        raise ValueError("an amount to compare is positive")
    expected = amount_in_units * reference.numerator
    short = (expected - amount_out_units * reference.denominator) * BPS_WHOLE
    return -(-short // expected)
