from fractions import Fraction
from itertools import pairwise
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.allocation import AllocationError, allocate

UINT = 2**256 - 1  # 78 digits
weights_lists = st.lists(st.one_of(st.integers(0, 5), st.integers(0, UINT)), min_size=1, max_size=40).filter(
    any
)
totals = st.one_of(st.integers(0, 50), st.integers(0, UINT))


def model(total: int, weights: list[int], keys: list[int]) -> list[int]:
    """Hamilton's method as one would do it by hand: one unit at a time to whoever misses most."""
    quotas = [Fraction(total * weight, sum(weights)) for weight in weights]
    shares = [int(quota) for quota in quotas]
    waiting = list(range(len(weights)))
    while sum(shares) < total:
        neediest = min(waiting, key=lambda i: (shares[i] - quotas[i], keys[i]))
        shares[neediest] += 1
        waiting.remove(neediest)
    return shares


@settings(max_examples=400, deadline=None)
@given(st.data(), totals, weights_lists)
def test_shares_are_those_of_the_method_done_by_hand(
    data: st.DataObject, total: int, weights: list[int]
) -> None:
    keys = data.draw(st.permutations(range(len(weights))))
    assert allocate(total, weights, keys) == model(total, weights, keys)


@given(totals, weights_lists)
def test_shares_sum_exactly_and_stay_within_a_unit_of_the_quota(total: int, weights: list[int]) -> None:
    shares = allocate(total, weights, range(len(weights)))
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        quota = Fraction(total * weight, sum(weights))
        assert share in {quota.__floor__(), quota.__ceil__()}
        assert weight or not share


@given(totals, weights_lists)
def test_a_larger_weight_never_gets_less(total: int, weights: list[int]) -> None:
    pairs = sorted(zip(weights, allocate(total, weights, range(len(weights))), strict=True))
    for (weight, share), (heavier, more) in pairwise(pairs):
        assert more >= share
        assert heavier > weight or more - share <= 1


@given(st.data(), totals, weights_lists)
def test_order_of_the_inputs_does_not_matter(data: st.DataObject, total: int, weights: list[int]) -> None:
    keys = [f"slot-{i:03}" for i in range(len(weights))]
    order = data.draw(st.permutations(range(len(weights))))
    expected = dict(zip(keys, allocate(total, weights, keys), strict=True))
    moved = allocate(total, [weights[i] for i in order], [keys[i] for i in order])
    assert dict(zip([keys[i] for i in order], moved, strict=True)) == expected


@pytest.mark.parametrize(
    ("total", "weights", "keys", "shares"),
    [
        (100, [1, 1, 1], "cab", [33, 34, 33]),  # a tie goes to the smallest key
        (101, [1, 1, 1], "cab", [33, 34, 34]),
        (10, [0, 1, 0, 2], "abcd", [0, 3, 0, 7]),
        (1, [0, 1, 1], "abc", [0, 1, 0]),
        (0, [3, 4], "ab", [0, 0]),
        (0, [0, 0], "ab", [0, 0]),
        (0, [], "", []),
        (UINT, [UINT], "a", [UINT]),
        (2, [UINT, UINT, UINT], "abc", [1, 1, 0]),
        (10, [15, 15, 9], "abc", [4, 4, 2]),
        (5, [1, 10**40], "ab", [0, 5]),
    ],
)
def test_worked_examples(total: int, weights: list[int], keys: str, shares: list[int]) -> None:
    assert allocate(total, weights, keys) == shares


@pytest.mark.parametrize(
    ("total", "weights", "keys"),
    [
        (1, [0, 0], "ab"),
        (1, [], ""),
        (-1, [1], "a"),
        (1, [2, -1], "ab"),
        (1, [1], "ab"),
        (1, [1, 1], "aa"),
        (1.0, [1], "a"),
        (1, [1.0], "a"),
        (True, [1], "a"),
        (1, [True], "a"),
    ],
)
def test_what_cannot_be_shared_is_refused(total: Any, weights: Any, keys: str) -> None:
    with pytest.raises(AllocationError):
        allocate(total, weights, keys)


def test_ten_thousand_weights_of_78_digits_are_shared_at_once() -> None:
    weights = [UINT - i * i for i in range(10_000)]
    # Of the processor: waiting on a busy machine is none.
    started = process_time()
    shares = allocate(UINT, weights, range(10_000))
    assert process_time() - started < 1
    assert sum(shares) == UINT
