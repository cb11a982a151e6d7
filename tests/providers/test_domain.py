"""The guard for all numbers: exact, in the person's favour, and of one mind with itself."""

from datetime import UTC, datetime
from fractions import Fraction
from math import ceil
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.providers.domain import FeedAnswer, Ratio, deviation_bps, feed_ratio, min_out

UNITS = st.integers(1, 10**30)
RATIOS = st.builds(Ratio, st.integers(1, 10**36), st.integers(1, 10**36))
BPS = st.integers(0, 9_999)


@given(RATIOS, UNITS, BPS)
def test_min_out_is_the_exact_floor_rounded_up(reference: Ratio, amount: int, bps: int) -> None:
    exact = Fraction(amount * reference.numerator * (10_000 - bps), reference.denominator * 10_000)
    assert min_out(reference, amount, bps) == ceil(exact)
    assert min_out(reference, amount, bps) >= 1


@given(RATIOS, UNITS, BPS, st.integers(-3, 3))
def test_floor_and_deviation_agree_to_the_unit(reference: Ratio, amount: int, bps: int, off_by: int) -> None:
    # given an output around the floor itself, where a rounding error would show
    out = max(0, min_out(reference, amount, bps) + off_by)
    deviation = deviation_bps(amount_in_units=amount, amount_out_units=out, reference=reference)
    assert (out >= min_out(reference, amount, bps)) == (deviation <= bps)


@given(RATIOS, UNITS, st.integers(0, 10**66))
def test_deviation_never_flatters_the_venue(reference: Ratio, amount: int, out: int) -> None:
    expected = Fraction(amount * reference.numerator, reference.denominator)
    exact = (expected - out) / expected * 10_000
    deviation = deviation_bps(amount_in_units=amount, amount_out_units=out, reference=reference)
    assert exact <= deviation < exact + 1


@given(RATIOS, UNITS)
def test_conversion_rounds_to_either_side_and_back(ratio: Ratio, units: int) -> None:
    assert ratio.floor(units) <= Fraction(units * ratio.numerator, ratio.denominator) <= ratio.ceil(units)
    assert ratio.ceil(units) - ratio.floor(units) <= 1
    assert ratio.inverse().floor(ratio.floor(units)) <= units <= ratio.inverse().ceil(ratio.ceil(units))


def test_guard_of_known_numbers() -> None:
    # given 2500 USDC (6 places) per WETH (18 places): 4e8 wei per USDC unit
    reference = feed_ratio(
        sold=_answer(10**8), bought=_answer(2_500 * 10**8), sold_decimals=6, bought_decimals=18
    )
    assert (reference.numerator, reference.denominator) == (400_000_000, 1)
    # then 1000 USDC are 0.4 WETH, and 1 % below is 0.396
    assert min_out(reference, 1_000 * 10**6, 100) == 396 * 10**15
    assert deviation_bps(amount_in_units=10**9, amount_out_units=396 * 10**15 - 1, reference=reference) == 101
    assert deviation_bps(amount_in_units=10**9, amount_out_units=404 * 10**15, reference=reference) == -100


def test_feeds_of_different_decimals_give_the_same_price() -> None:
    eight = feed_ratio(sold=_answer(10**8), bought=_answer(15 * 10**8), sold_decimals=6, bought_decimals=18)
    mixed = feed_ratio(
        sold=_answer(10**8),
        bought=_answer(15 * 10**18, decimals=18),
        sold_decimals=6,
        bought_decimals=18,
    )
    assert eight == mixed


@pytest.mark.parametrize("bps", [-1, 10_000])
def test_guard_outside_its_range_is_refused(bps: int) -> None:
    with pytest.raises(ValueError, match="bps"):
        min_out(Ratio(1, 1), 1, bps)


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (1, 0), (-1, 1)])
def test_price_that_is_not_positive_is_no_price(numerator: int, denominator: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        Ratio(numerator, denominator)


def _answer(answer: int, *, decimals: int = 8) -> FeedAnswer:
    return FeedAnswer(
        asset_id=UUID(int=0),
        aggregator="0x" + "0" * 40,
        round_id=1,
        answer=answer,
        decimals=decimals,
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
