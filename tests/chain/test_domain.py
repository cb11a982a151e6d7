"""Fees, the transition table, the words of nodes, call data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.chain import abi
from apps.chain.client import SendOutcome, send_outcome
from apps.chain.domain import (
    FINAL,
    OUTSTANDING,
    TRANSITIONS,
    Fees,
    TransactionState,
    bump,
    depth,
    fees_cancel,
    fees_initial,
    fees_replacement,
)

wei = st.integers(0, 10**15)


@given(wei)
def test_a_bump_is_at_least_an_eighth_and_at_most_one_unit_more_than_that(units: int) -> None:
    raised = bump(units)
    assert raised > units
    assert 8 * raised >= 9 * units
    assert 8 * (raised - 1) < max(9 * units, 8 * units + 1)


@given(wei, wei, wei, wei)
def test_initial_fees_stay_in_their_caps(base: int, priority: int, cap: int, priority_cap: int) -> None:
    fees = fees_initial(
        base_fee_units=base, priority_fee_units=priority, cap_units=cap, priority_cap_units=priority_cap
    )
    assert fees.max_fee_units <= cap
    assert fees.priority_fee_units <= min(priority_cap, fees.max_fee_units)


@given(wei, wei, wei, wei, st.integers(1, 10**15))
def test_a_replacement_outbids_both_fees_within_the_cap_or_is_none(
    a: int, b: int, c: int, d: int, cap: int
) -> None:
    last, market = Fees(max(a, b), min(a, b)), Fees(max(c, d), min(c, d))
    fees = fees_replacement(last=last, market=market, cap_units=cap)
    if fees is None:
        assert bump(last.max_fee_units) > cap
        return
    assert bump(last.max_fee_units) <= fees.max_fee_units <= cap
    assert bump(last.priority_fee_units) <= fees.priority_fee_units <= fees.max_fee_units


def test_a_cancellation_may_pass_the_cap_once_it_is_reached() -> None:
    at_cap, market = Fees(100, 1), Fees(10, 1)
    assert fees_replacement(last=at_cap, market=market, cap_units=100) is None
    assert fees_cancel(last=at_cap, market=market, cap_units=100) == Fees(113, 2)
    assert fees_cancel(last=Fees(190, 1), market=market, cap_units=100) is None


def test_final_states_lead_nowhere_and_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(TransactionState)
    assert {state for state, after in TRANSITIONS.items() if not after} == FINAL
    assert set(TransactionState) == FINAL | OUTSTANDING | {TransactionState.MINED}
    assert all(TransactionState.MINED in TRANSITIONS[state] for state in OUTSTANDING)


def test_the_tip_has_one_confirmation() -> None:
    assert (depth(tip=10, number=10), depth(tip=12, number=10)) == (1, 3)


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("already known", SendOutcome.KNOWN),
        ("ALREADY_EXISTS: already known", SendOutcome.KNOWN),
        ("transaction already imported", SendOutcome.KNOWN),
        ("nonce too low: next nonce 5, tx nonce 4", SendOutcome.NONCE_TOO_LOW),
        ("replacement transaction underpriced", SendOutcome.UNDERPRICED),
        ("max fee per gas less than block base fee: address 0x0", SendOutcome.UNDERPRICED),
        ("insufficient funds for gas * price + value", SendOutcome.NO_FUNDS),
        ("Insufficient funds for gas * price + value", SendOutcome.NO_FUNDS),
        ("intrinsic gas too low", SendOutcome.REFUSED),
        ("exceeds block gas limit", SendOutcome.REFUSED),
        ("something new", None),
    ],
)
def test_the_words_of_nodes(words: str, outcome: SendOutcome | None) -> None:
    assert send_outcome(words) == outcome


@given(st.integers(0, 2**256 - 1), st.binary(min_size=20, max_size=20))
def test_call_data_round_trips_and_nothing_may_hide_behind_it(units: int, address: bytes) -> None:
    signature = "transfer(address,uint256)"
    data = abi.call_data(signature, ["0x" + address.hex(), units])
    assert data.startswith("0xa9059cbb")
    assert abi.arguments(signature, data) == ("0x" + address.hex(), units)
    for altered in (data + "00", data[:-2], "0xdeadbeef" + data[10:]):
        with pytest.raises(ValueError, match=r"selector|fit|canonical"):
            abi.arguments(signature, altered)


def test_signatures_split_at_their_top_level() -> None:
    assert abi.argument_types("f((bytes,address)[],uint256,(uint8,(bool,int8)))") == [
        "(bytes,address)[]",
        "uint256",
        "(uint8,(bool,int8))",
    ]
    assert abi.argument_types("f()") == []
    with pytest.raises(ValueError, match="signature"):
        abi.argument_types("nonsense")


def test_revert_reasons() -> None:
    assert (
        abi.revert_reason(bytes.fromhex("08c379a0") + abi.encode(["string"], ["too little"])) == "too little"
    )
    assert abi.revert_reason(bytes.fromhex("4e487b71") + abi.encode(["uint256"], [0x11])) == "panic 0x11"
    assert abi.revert_reason(bytes.fromhex("deadbeef")) == "custom error 0xdeadbeef"
    assert abi.revert_reason(b"") == "no reason given"
    assert abi.revert_reason(bytes.fromhex("08c379a0ff")) == "malformed revert data"


def test_the_transfer_topic_is_the_published_one() -> None:
    assert (
        abi.topic(abi.TRANSFER_SIGNATURE)
        == "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    )
