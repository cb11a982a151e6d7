"""Proof of reserves: deposit addresses count, a divergence in two looks pauses, and everybody may see it."""

from typing import Any

import pytest
from django.test import Client

from apps.chain.models import OutboundTransaction
from apps.core import clock
from apps.deposits.models import Scan
from apps.deposits.sweep_planning import sweeps_demand, sweeps_plan
from apps.events.models import Event
from apps.treasury.models import Activity, Pause, ReservesSnapshot
from apps.treasury.pauses import pause_lift, paused_read
from apps.treasury.reserves import reserves_check
from tests.deposits.collecting import ETHER, USDC, Place, place
from tests.support.races import off_and_on, race

__all__ = ["place"]


def look(place: Place, code: str = "USDC") -> ReservesSnapshot:
    """One look at a later block."""
    place.node.mine()
    place.watch()
    reserves_check()
    return ReservesSnapshot.objects.select_related("asset", "network").get(asset_id=place.asset_id(code))


def topics() -> list[str]:
    return list(
        Event.objects.filter(topic__startswith="reserves.")
        .order_by("sequence")
        .values_list("topic", flat=True)
    )


def test_everything_that_we_control_is_in_the_proof(place: Place) -> None:
    # given money credited at deposit addresses, money that waits below the minimum, and money just seen
    first, second = place.address(), place.address()
    place.deposit(first, "USDC", 700 * USDC)
    place.deposit(first, "ETH", ETHER)
    place.seen(second, "USDC", 5, block=place.send(second, "USDC", 5), state="ignored")
    place.seen(second, "USDC", 9, block=place.send(second, "USDC", 9))
    # when
    row = look(place)
    # then
    assert (row.verdict, row.chain_units, row.ledger_units, row.in_flight_units) == (
        "matched",
        700 * USDC + 14,
        700 * USDC,
        14,
    )
    assert row.liabilities_units == 700 * USDC
    # and while it is collected, at every step
    sweeps_plan()
    for _ in range(12):
        place.advance()
        assert {one.verdict for one in reserves_check()} == {"matched"}
    assert look(place).ledger_units == 700 * USDC
    assert place.on_chain(place.hot.address, "USDC") == 700 * USDC
    assert topics() == []


def test_divergence_in_two_looks_pauses_and_says_how_much_and_since_when(place: Place) -> None:
    at = place.address()
    place.deposit(at, "USDC", 700 * USDC)
    sound = look(place)
    # given units that the books do not know of
    place.send(at, "USDC", 3)
    # when looked at once
    row = look(place)
    # then nothing is stopped
    assert (row.verdict, row.difference_units) == ("checking", 3)
    assert not Pause.objects.exists()
    # nor when the same block is looked at again
    reserves_check()
    assert not Pause.objects.exists()
    # when a later block shows the same
    second = look(place)
    # then this asset is paused for both, and only this one
    assert second.verdict == "diverged"
    assert not paused_read(activity=Activity.SIGNING_UP).everything
    for activity in (Activity.BUYING, Activity.WITHDRAWING):
        paused = paused_read(activity=activity)
        assert set(paused.assets) == {place.asset_id("USDC")}
        assert not paused.everything
    details = Pause.objects.filter(source="reconciliation").first()
    assert details is not None
    assert details.details["difference_units"] == "3"
    assert details.details["since_block"] == row.block_number
    assert details.details["matched_block"] == sound.block_number
    assert details.details["network"] == place.network.name
    assert topics() == ["reserves.diverged"]
    # and it is told once
    look(place)
    look(place)
    assert topics() == ["reserves.diverged"]
    assert Pause.objects.count() == 2


def test_back_in_order_is_told_and_the_pause_stays_until_it_is_lifted(place: Place) -> None:
    at = place.address()
    place.deposit(at, "USDC", 700 * USDC)
    block = place.send(at, "USDC", 3)
    look(place)
    look(place)
    assert Pause.objects.filter(lifted_at__isnull=True).count() == 2
    # when the books learn of it
    place.credit(place.seen(at, "USDC", 3, block=block))
    row = look(place)
    # then
    assert (row.verdict, row.since_block) == ("matched", None)
    assert topics() == ["reserves.diverged", "reserves.matched"]
    assert Pause.objects.filter(lifted_at__isnull=True).count() == 2
    for pause in Pause.objects.all():
        pause_lift(pause_id=pause.pk, actor="op", note="looked into")
    look(place)
    assert not Pause.objects.filter(lifted_at__isnull=True).exists()


def test_lifted_pause_comes_back_when_the_difference_changes_and_not_before(place: Place) -> None:
    at = place.address()
    place.deposit(at, "USDC", 700 * USDC)
    place.send(at, "USDC", 3)
    look(place)
    look(place)
    for pause in Pause.objects.all():
        pause_lift(pause_id=pause.pk, actor="op", note="known, a stranger's gift")
    look(place)
    look(place)
    assert not Pause.objects.filter(lifted_at__isnull=True).exists()
    # when more is wrong
    place.send(at, "USDC", 4)
    look(place)
    assert not Pause.objects.filter(lifted_at__isnull=True).exists()
    look(place)
    assert Pause.objects.filter(lifted_at__isnull=True).count() == 2


def test_a_gift_in_our_own_wallet_is_told_and_stops_nothing(place: Place) -> None:
    place.deposit(place.address(), "USDC", 700 * USDC)
    look(place)
    place.node.mining_automatic()
    place.maker.mint(symbol="USDC", to=place.hot.address, units=1)
    place.node.mining_manual()
    look(place)
    row = look(place)
    assert (row.verdict, row.difference_units) == ("diverged", 1)
    assert topics() == ["reserves.diverged"]
    assert not Pause.objects.exists()
    # and it is told once
    look(place)
    look(place)
    assert topics() == ["reserves.diverged"]


def test_two_errors_do_not_hide_each_other(place: Place) -> None:
    # given a unit too many here and a unit too few there
    first, second = place.address(), place.address()
    place.deposit(first, "USDC", 700 * USDC)
    place.deposit(second, "WBTC", 7)
    place.node.mining_automatic()
    place.maker.mint(symbol="USDC", to=place.hot.address, units=5)
    place.node.mining_manual()
    from apps.treasury.services import credit_by_hand

    credit_by_hand(
        user_id=first.user_id,
        asset_id=place.asset_id("USDC"),
        amount_units=5,
        reference="wrong wallet",
        note="test",
        actor="test",
        wallet_id=place.gas.pk,
    )
    row = look(place)
    assert (row.difference_units, row.mismatch_units, row.verdict) == (0, 10, "checking")


def test_monitor_that_is_far_behind_proves_nothing(place: Place) -> None:
    at = place.address()
    place.deposit(at, "USDC", 700 * USDC)
    assert look(place).verdict == "matched"
    # given blocks that nobody has read for deposits, with one in them
    place.send(at, "USDC", 3)
    before = Scan.objects.get().next_block
    place.node.mine(blocks=110)
    place.watch()
    Scan.objects.update(next_block=before)
    # when
    reserves_check()
    # then nothing is called wrong
    row = ReservesSnapshot.objects.get(asset_id=place.asset_id("USDC"))
    assert row.verdict == "unproved"
    assert row.reason.startswith("arrivals are recorded up to block")
    assert ReservesSnapshot.objects.get(asset_id=place.asset_id("WETH")).verdict == "matched"
    assert not Pause.objects.exists()


def test_monitor_that_is_a_block_behind_is_compared_at_its_block(place: Place) -> None:
    at = place.address()
    place.deposit(at, "USDC", 700 * USDC)
    place.watch()
    block = place.network.watched_block
    place.send(at, "USDC", 3)
    place.watch()
    Scan.objects.update(next_block=(block or 0) + 1)
    reserves_check()
    row = ReservesSnapshot.objects.get(asset_id=place.asset_id("USDC"))
    assert (row.verdict, row.block_number) == ("matched", block)


def test_what_is_booked_of_later_blocks_is_taken_off(place: Place) -> None:
    """The monitor stands before a deposit, its sweep, the gas brought for it: all of them are booked meanwhile."""
    place.deposit(place.address(), "USDC", 700 * USDC)
    place.watch()
    block = place.network.watched_block or 0
    place.deposit(place.address(), "USDC", 5 * USDC)
    sweeps_demand(asset_id=place.asset_id("USDC"), units=700 * USDC)
    place.finish()
    assert OutboundTransaction.objects.filter(booked_at__isnull=False, block_number__gt=block).count() == 2
    Scan.objects.update(next_block=block + 1)
    reserves_check()
    for code in ("USDC", "ETH"):
        row = ReservesSnapshot.objects.get(asset_id=place.asset_id(code))
        assert (row.verdict, row.mismatch_units, row.block_number) == ("matched", 0, block)


@off_and_on
def test_two_looks_at_once_are_one(place: Place, locked: bool) -> None:
    at = place.address()
    place.deposit(at, "USDC", 700 * USDC)
    place.send(at, "USDC", 3)
    look(place)
    place.node.mine()
    place.watch()

    race(reserves_check, reserves_check, lock='FROM "treasury_reservessnapshot"', locked=locked)

    assert topics() == ["reserves.diverged"] * (1 if locked else 2)
    assert Pause.objects.count() == 2


def test_anybody_may_see_totals_and_no_address(place: Place, client: Client) -> None:
    at = place.address()
    place.deposit(at, "USDC", 700 * USDC + 1)
    row = look(place)
    answer = client.get("/api/v1/platform/reserves")
    assert answer.status_code == 200
    (usdc,) = [one for one in answer.json()["data"] if one["asset"] == "USDC"]
    assert usdc.pop("checked_at").startswith(f"{clock.now():%Y-%m-%d}")
    assert usdc == {
        "asset": "USDC",
        "network": place.network.name,
        "verdict": "matched",
        "liabilities": "700.000001",
        "on_chain": "700.000001",
        "ledger": "700.000001",
        "in_flight": "0",
        "difference": "0",
        "block_number": row.block_number,
        "since_block": None,
    }
    assert at.address not in answer.content.decode()
    assert place.hot.address not in answer.content.decode().lower()


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_reserves_are_only_read(client: Client, method: str, db: None) -> None:
    answer = getattr(client, method)("/api/v1/platform/reserves")
    assert answer.status_code == 405
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"asset": "USDC"}, "unknown_field"),
        ({"asset": ["USDC", "ETH"]}, "repeated"),
        ({"limit": "1"}, "unknown_field"),
    ],
)
def test_reserves_take_no_query(client: Client, db: None, query: dict[str, Any], code: str) -> None:
    answer = client.get("/api/v1/platform/reserves", query)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert [one["code"] for one in answer.json()["errors"]] == [code]


def test_reserves_before_the_first_look_are_empty(client: Client, db: None) -> None:
    assert client.get("/api/v1/platform/reserves").json() == {"data": []}
