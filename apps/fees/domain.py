"""Fee arithmetic: pure integers of base units, rounded down, which is the person's favour."""

from collections.abc import Sequence
from dataclasses import dataclass

BPS_WHOLE = 10_000


@dataclass(frozen=True, slots=True)
class FeeRule:
    """One schedule's numbers. `max_units` of None means no maximum."""

    bps: int
    min_units: int = 0
    max_units: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.bps <= BPS_WHOLE:
            raise ValueError(f"bps outside 0..{BPS_WHOLE}")
        if self.min_units < 0 or (self.max_units is not None and self.max_units < self.min_units):
            raise ValueError("the bounds of a fee must be 0 <= min <= max")

    def fee(self, amount_units: int) -> int:
        """The fee inside `amount_units`; see `fee`."""
        return fee(amount_units, self.bps, self.min_units, self.max_units)


def fee(amount_units: int, bps: int, min_units: int = 0, max_units: int | None = None) -> int:
    """The fee in base units: floor(amount x bps / 10000), raised to the minimum, lowered to the maximum.

    Never more than the amount (a minimum above the amount takes the whole amount, so nothing is left to swap:
    callers refuse such a buy), and 0 for an amount of 0. Raises `ValueError` for a negative amount.
    """
    if amount_units < 0:
        raise ValueError("an amount is not negative")
    proportional = amount_units * bps // BPS_WHOLE
    bounded = max(proportional, min_units)
    if max_units is not None:
        bounded = min(bounded, max_units)
    return min(bounded, amount_units)


def fees(rule: FeeRule, amounts: Sequence[int]) -> list[int]:
    """`rule` applied to each amount, in order."""
    return [rule.fee(amount) for amount in amounts]
