"""Fee arithmetic for all numbers."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.fees.domain import BPS_WHOLE, FeeRule, fee, fees

AMOUNTS = st.integers(0, 10**40)
BPS = st.integers(0, BPS_WHOLE)
BOUNDS = st.tuples(AMOUNTS, st.none() | AMOUNTS).filter(lambda pair: pair[1] is None or pair[0] <= pair[1])


@pytest.mark.parametrize(
    ("amount", "bps", "minimum", "maximum", "expected"),
    [
        (1_000_000, 25, 0, None, 2_500),
        (399, 25, 0, None, 0),  # 0.9975 rounds down: the person's favour
        (400, 25, 0, None, 1),
        (1_000_000, 25, 10_000, None, 10_000),
        (1_000_000, 25, 0, 2_000, 2_000),
        (9, 25, 10, None, 9),  # a minimum above the amount never takes more than the amount
        (0, 10_000, 10, None, 0),
        (77, 10_000, 0, None, 77),
    ],
)
def test_fee_of_known_amounts(
    amount: int, bps: int, minimum: int, maximum: int | None, expected: int
) -> None:
    assert fee(amount, bps, minimum, maximum) == expected


@given(AMOUNTS, BPS, BOUNDS)
@example(1, 1, (0, 0))
def test_fee_stays_inside_the_amount_and_its_bounds(
    amount: int, bps: int, bounds: tuple[int, int | None]
) -> None:
    minimum, maximum = bounds
    charged = fee(amount, bps, minimum, maximum)
    assert 0 <= charged <= amount
    assert charged >= min(minimum, amount)
    assert maximum is None or charged <= maximum


@given(AMOUNTS, BPS)
def test_proportional_fee_never_exceeds_the_exact_share_and_misses_it_by_less_than_one(
    amount: int, bps: int
) -> None:
    charged = fee(amount, bps)
    assert 0 <= amount * bps - charged * BPS_WHOLE < BPS_WHOLE


@given(AMOUNTS, AMOUNTS, BPS, BOUNDS)
def test_larger_amount_never_pays_less(
    one: int, other: int, bps: int, bounds: tuple[int, int | None]
) -> None:
    small, large = sorted((one, other))
    assert fee(small, bps, *bounds) <= fee(large, bps, *bounds)


def test_fees_keep_the_order_of_the_amounts() -> None:
    assert fees(FeeRule(bps=100, min_units=5), [1_000, 10, 3, 0]) == [10, 5, 3, 0]


def test_negative_amount_and_senseless_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        fee(-1, 25)
    with pytest.raises(ValueError, match="bps"):
        FeeRule(bps=10_001)
    with pytest.raises(ValueError, match="min <= max"):
        FeeRule(bps=1, min_units=2, max_units=1)
