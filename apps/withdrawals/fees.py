"""What a withdrawal costs: a flat part, and the gas at its price in the asset. Quoted before, at most taken after."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from apps.chain import selectors as chain_selectors
from apps.chain.models import Network, Token
from apps.core import clock
from apps.core.api.amounts import amount_format
from apps.core.errors import DomainError
from apps.core.fields import UINT256_MAX
from apps.core.models import Asset
from apps.providers import selectors as providers_selectors
from apps.providers.domain import Ratio
from apps.withdrawals.errors import PriceMissing, WithdrawalsClosed
from apps.withdrawals.models import WithdrawalRule

# Room for the base fee to double before the transaction is mined; what is not used goes back.
GAS_PRICE_ROOM = 2
# An older price is none.
PRICE_MAX_AGE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Quote:
    """The terms of one amount, in base units: `amount = fee + sent`, `fee = flat + gas`.

    `ratio` is units of the asset per wei, `gas_price_units` wei per unit of gas, `gas_units` units of gas.
    """

    asset: Asset
    network: Network
    token: Token | None
    amount_units: int
    flat_units: int
    gas_fee_units: int
    gas_units: int
    gas_price_units: int
    ratio: Ratio | None

    @property
    def fee_units(self) -> int:
        return self.flat_units + self.gas_fee_units

    @property
    def sent_units(self) -> int:
        return self.amount_units - self.fee_units

    @property
    def why(self) -> list[dict[str, Any]]:
        """The fee in words, each with a stable code."""
        code = self.asset.code
        said = [("inside", f"The fee is inside the amount: {self._text(self.sent_units)} {code} arrive.")]
        if self.flat_units:
            said.append(("flat", f"{self._text(self.flat_units)} {code} for the withdrawal itself."))
        if self.gas_fee_units:
            text = (
                f"At most {self._text(self.gas_fee_units)} {code} for {self.gas_units} units of gas: twice today's"
                " price, so that it is mined when gas rises. What is not burnt goes back to you."
            )
            said.append(("gas", text))
        else:
            said.append(("gas_paid", "The platform pays the gas."))
        return [{"code": name, "text": text} for name, text in said]

    def _text(self, units: int) -> str:
        return amount_format(units, decimals=self.asset.decimals)


def fee_quote(*, rule: WithdrawalRule, asset: Asset, amount_units: int) -> Quote:
    """The fee of one amount now, from stored prices: no request waits for a chain.

    Raises `PriceMissing` (retryable) without a recent price, `DomainError` when less than the rule's minimum would
    arrive, `WithdrawalsClosed` for an asset that lives on no network.
    """
    place = chain_selectors.asset_places(asset_ids=[asset.pk]).get(asset.pk)
    if place is None or (place.token is not None and not place.token.enabled):
        raise WithdrawalsClosed("withdrawals_disabled", f"{asset.code} cannot be withdrawn.")
    gas_fee, price_units, ratio = 0, 0, None
    if rule.gas_units:
        price = providers_selectors.gas_price_latest(asset_id=asset.pk, network_id=place.network.pk)
        if price is None or clock.now() - price.refreshed_at > PRICE_MAX_AGE:
            raise PriceMissing(f"gas has no recent price in {asset.code}", after_seconds=15)
        ratio, price_units = price.ratio, price.price_units
        if max(ratio.numerator, ratio.denominator) > UINT256_MAX:
            raise PriceMissing(f"gas has no usable price in {asset.code}")
        gas_fee = ratio.ceil(rule.gas_units * GAS_PRICE_ROOM * price_units)
    quote = Quote(
        asset=asset,
        network=place.network,
        token=place.token,
        amount_units=amount_units,
        flat_units=rule.flat_fee_units,
        gas_fee_units=gas_fee,
        gas_units=rule.gas_units,
        gas_price_units=price_units,
        ratio=ratio,
    )
    if quote.sent_units < rule.minimum_units:
        least = amount_format(rule.minimum_units + quote.fee_units, decimals=asset.decimals)
        raise DomainError(
            "below_minimum",
            f"At least {least} {asset.code}, since the fee comes off it.",
            pointer="/amount",
        )
    return quote
