"""Amounts and cursors against what must hold for all of them."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.api.amounts import AmountError, amount_format, amount_parse
from apps.core.api.pagination import Cursor, cursor_decode, cursor_encode
from apps.core.api.parsers import json_read
from apps.core.api.problems import ProblemError
from apps.core.fields import UINT256_MAX

units = st.integers(min_value=0, max_value=UINT256_MAX)
decimals = st.integers(min_value=0, max_value=36)


@given(units, decimals)
def test_what_is_written_is_read_back(amount: int, places: int) -> None:
    text = amount_format(amount, decimals=places)
    assert amount_parse(text, decimals=places) == amount
    assert Fraction(text) * 10**places == amount
    assert "E" not in text
    assert not ("." in text and text.endswith("0"))
    assert amount_format(-amount, decimals=places) == (f"-{text}" if amount else text)


@given(st.text(max_size=40), decimals)
def test_any_text_is_an_exact_amount_or_refused(text: str, places: int) -> None:
    try:
        amount = amount_parse(text, decimals=places)
    except AmountError:
        return
    assert 0 <= amount <= UINT256_MAX
    assert Fraction(text) * 10**places == amount


@pytest.mark.parametrize("value", [1, 1.0, True, None, b"1", ["1"], {}, Decimal(1)])
def test_only_text_is_an_amount(value: object) -> None:
    with pytest.raises(AmountError):
        amount_parse(value, decimals=6)


@given(
    st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.uuids(),
)
def test_cursor_round_trip(created_at: datetime, row_id: uuid.UUID) -> None:
    cursor = Cursor(created_at, row_id)
    assert cursor_decode(cursor_encode(cursor, scope="list"), scope="list") == cursor


@given(st.text(max_size=120))
def test_no_text_is_a_cursor_by_chance(text: str) -> None:
    with pytest.raises(ProblemError):
        cursor_decode(text, scope="list")


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_a_problem(body: bytes) -> None:
    status = 200
    try:
        json_read(body)
    except ProblemError as error:
        status = error.problem.kind.status
    assert status in (200, 400)
