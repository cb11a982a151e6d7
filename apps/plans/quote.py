"""What a buy will cost and why, from our own tables: the fee schedule and the stored price. Never from the chain."""

from dataclasses import dataclass, field
from datetime import datetime

from apps.core import clock
from apps.core.api.amounts import amount_format
from apps.core.errors import Retryable
from apps.core.models import Asset
from apps.fees.services import FeeQuote, fee_quote
from apps.providers.domain import min_out
from apps.providers.models import Market
from apps.providers.selectors import Snapshot, snapshot_of

GAS_PAID_BY = "platform"


@dataclass(frozen=True, slots=True)
class Why:
    """One line of the explanation. `code` is stable; `text` is for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class BuyQuote:
    """A buy of `amount_units` (sold asset): `amount = fee + swapped`.

    `expected_units` is what the reference price would give for the swapped part, rounded down; venues' own fees
    and price impact come off it. `minimum_units` is the least that the chain will accept, rounded up. Gas is in
    base units of the network's coin, and its worth in the sold asset, for a swap that nobody shares.
    """

    market: Market
    amount_units: int
    fee_units: int
    swapped_units: int
    expected_units: int
    minimum_units: int
    slippage_bps: int
    price_units: int
    gas_units: int
    gas_worth_units: int
    observed_at: datetime
    refreshed_at: datetime
    age_seconds: int
    block_number: int
    tradable: bool
    why: list[Why] = field(default_factory=list)


def buy_quote(
    *, market: Market, tier: str, amount_units: int, max_slippage_bps: int | None = None
) -> BuyQuote:
    """Quote a buy on an open market (loaded with assets, gas coin and price, as `MarketField` does).

    One query, for the fee. Raises `Retryable` when no price was ever stored, and `FeeScheduleMissing`.
    """
    row = getattr(market, "price_snapshot", None)
    if row is None:
        raise Retryable("this market has no price yet", after_seconds=5)
    snapshot = snapshot_of(row)
    fee = fee_quote(asset_id=market.sold_asset_id, tier=tier, amount_units=amount_units)
    slippage_bps = market.guard_bps if max_slippage_bps is None else min(max_slippage_bps, market.guard_bps)
    tradable = fee.net_units >= market.min_trade_units
    gas_units = snapshot.swap_gas_units * snapshot.gas_price_units
    quote = BuyQuote(
        market=market,
        amount_units=amount_units,
        fee_units=fee.fee_units,
        swapped_units=fee.net_units,
        expected_units=snapshot.ratio.floor(fee.net_units),
        minimum_units=min_out(snapshot.ratio, fee.net_units, slippage_bps),
        slippage_bps=slippage_bps,
        price_units=snapshot.ratio.inverse().ceil(10**market.bought_asset.decimals),
        gas_units=gas_units,
        gas_worth_units=snapshot.gas_ratio.ceil(gas_units),
        observed_at=snapshot.observed_at,
        refreshed_at=snapshot.refreshed_at,
        age_seconds=max(0, int((clock.now() - snapshot.observed_at).total_seconds())),
        block_number=snapshot.block_number,
        tradable=tradable,
    )
    quote.why.extend(_why(quote, fee, snapshot))
    return quote


def _why(quote: BuyQuote, fee: FeeQuote, snapshot: Snapshot) -> list[Why]:
    market = quote.market
    sold, bought, native = market.sold_asset, market.bought_asset, market.network.native_asset
    lines = [
        _why_fee(fee, sold),
        Why("swapped", f"The fee is inside the amount: {_say(quote.swapped_units, sold)} are swapped."),
        Why(
            "price",
            f"One {bought.code} costs {_say(quote.price_units, sold)} by independent price feeds"
            f" ({quote.age_seconds} s old, block {snapshot.block_number}), which gives"
            f" {_say(quote.expected_units, bought)} before the venue's own fee and price impact.",
        ),
        Why(
            "minimum",
            f"At most {quote.slippage_bps} basis points below that price: with less than"
            f" {_say(quote.minimum_units, bought)} the swap does not happen.",
        ),
        Why(
            "gas",
            f"One swap burns about {_say(quote.gas_units, native)} (worth {_say(quote.gas_worth_units, sold)}),"
            " shared by everybody whose buy is due with yours; the platform pays it, not you.",
        ),
    ]
    if not quote.tradable:
        lines.append(
            Why(
                "below_minimum",
                f"What the fee leaves is below this market's smallest trade of"
                f" {_say(market.min_trade_units, sold)}: such a buy is skipped.",
            )
        )
    return lines


def _why_fee(fee: FeeQuote, sold: Asset) -> Why:
    """Which of the schedule's numbers decided."""
    rule = fee.rule
    said = f"{rule.bps} basis points of {_say(fee.amount_units, sold)} (tier {fee.tier})"
    proportional = fee.amount_units * rule.bps // 10_000
    if fee.fee_units > proportional:
        return Why(
            "fee_minimum", f"The minimum fee of {_say(fee.fee_units, sold)}, since it is more than {said}."
        )
    if fee.fee_units < proportional:
        return Why(
            "fee_maximum", f"The maximum fee of {_say(fee.fee_units, sold)}, since it is less than {said}."
        )
    return Why("fee_rate", f"A fee of {_say(fee.fee_units, sold)}: {said}, rounded down.")


def _say(units: int, asset: Asset) -> str:
    return f"{amount_format(units, decimals=asset.decimals)} {asset.code}"
