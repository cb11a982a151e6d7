"""Sharing a total of base units among many by largest remainder, exactly.

Shares one swap's receipt among the slots of its batch (design.md, "The main job", step 5), and what a balance grew by
among a block's deposits.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar


class Comparable(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...

    def __hash__(self) -> int: ...


Key = TypeVar("Key", bound=Comparable)


class AllocationError(ValueError):
    """The inputs cannot be shared: a programming error, never a person's."""


def allocate(total: int, weights: Sequence[int], keys: Sequence[Key]) -> list[int]:
    """Shares of `total` in proportion to `weights`, in the order given.

    With quota(i) = total * weight(i) / sum(weights) as an exact fraction (the method of Hamilton):

    - the shares sum to `total`, whatever the weights;
    - each share is floor(quota) or floor(quota) + 1, and exactly the quota where that is a whole number;
    - so nobody is off by a whole unit, and a zero weight gets nothing;
    - a larger weight never gets less than a smaller one; equal weights differ by one unit at most;
    - units left over go to the largest remainders, ties to the smaller key: the result depends on the
      (weight, key) pairs alone, never on their order, so a repeated settlement computes the same shares;
    - it is not house-monotone (the Alabama paradox: a larger total may lower a share by a unit). A settlement
      shares one final total once, so nobody sees two totals.

    Integers only, of any size; O(n log n). Raises AllocationError for negative or non-integer input, for keys
    that are not unique or not one per weight, and for a positive total with no weight to carry it.
    """
    if len(keys) != len(weights) or len(set(keys)) != len(keys):
        raise AllocationError("One unique key is needed for each weight.")
    if type(total) is not int or any(type(weight) is not int for weight in weights):
        raise AllocationError("Amounts are integers of base units.")
    if total < 0 or (weights and min(weights) < 0):
        raise AllocationError("Amounts and weights cannot be negative.")
    whole = sum(weights)
    if whole == 0:
        if total:
            raise AllocationError("There is no weight to share the total by.")
        return [0] * len(weights)

    shares: list[int] = []
    remainders: list[int] = []
    for weight in weights:
        share, remainder = divmod(total * weight, whole)
        shares.append(share)
        remainders.append(remainder)

    # The remainders sum to left * whole and each is below whole: so more than `left` of them are positive
    # (or left is 0), and a zero weight, whose remainder is 0, is never reached.
    left = total - sum(shares)
    if left:
        order = sorted(range(len(keys)), key=keys.__getitem__)
        order.sort(key=remainders.__getitem__, reverse=True)  # stable, also in reverse: keys still break ties
        for index in order[:left]:
            shares[index] += 1
    return shares
