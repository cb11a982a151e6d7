"""The breaker of a venue: shared by all processes, opened by failures, closed by one probe."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from apps.chain.services import network_create
from apps.core.models import Asset
from apps.providers import breaker
from apps.providers.breaker import FAILURES_TO_OPEN, breaker_admit, breaker_record
from apps.providers.errors import NoRoute
from apps.providers.models import Venue, VenueHealth
from apps.providers.services import quotes_best, venue_outcome_record
from tests.providers.support import House


def _venue() -> UUID:
    native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    network = network_create(chain_id=1, name="one", native_asset_id=native.pk)
    venue = Venue.objects.create(
        network=network,
        kind=Venue.Kind.UNISWAP_V2,
        name="V2",
        router_address="0x" + "1" * 40,
        factory_address="0x" + "2" * 40,
    )
    return venue.pk


def _fail(venue_id: UUID, times: int) -> None:
    for _ in range(times):
        breaker_record(succeeded=[], failed={venue_id: "reverted"})


def _open_over(venue_id: UUID) -> None:
    """Let the time for which it is open have passed, on the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE providers_venuehealth SET open_until = clock_timestamp() - interval '1 second',"
            " probe_until = NULL WHERE venue_id = %s",
            [venue_id],
        )


def _open_seconds(venue_id: UUID) -> int:
    """For how long the last failure opened it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT round(extract(epoch FROM open_until - last_failure_at)) FROM providers_venuehealth"
            " WHERE venue_id = %s",
            [venue_id],
        )
        return int(cursor.fetchone()[0])


@pytest.mark.django_db
def test_breaker_opens_on_failures_in_a_row_and_a_probe_closes_it() -> None:
    venue_id = _venue()
    # given one failure less than it takes, a success, and the same again
    for _ in range(2):
        _fail(venue_id, FAILURES_TO_OPEN - 1)
        assert breaker_admit(venue_ids=[venue_id]) == {venue_id}
        breaker_record(succeeded=[venue_id], failed={})
    # when failures come in a row
    _fail(venue_id, FAILURES_TO_OPEN)
    # then it is open for a while
    assert breaker_admit(venue_ids=[venue_id]) == set()
    assert _open_seconds(venue_id) == breaker.OPEN_SECONDS
    # and after it one caller may probe, whose success closes it for all
    _open_over(venue_id)
    assert breaker_admit(venue_ids=[venue_id]) == {venue_id}
    assert breaker_admit(venue_ids=[venue_id]) == set()
    breaker_record(succeeded=[venue_id], failed={})
    assert breaker_admit(venue_ids=[venue_id]) == {venue_id}
    health = VenueHealth.objects.get(venue_id=venue_id)
    assert (health.consecutive_failures, health.times_opened, health.open_until) == (0, 0, None)


@pytest.mark.django_db
def test_failed_probe_opens_it_for_twice_as_long_up_to_a_cap() -> None:
    venue_id = _venue()
    _fail(venue_id, FAILURES_TO_OPEN)
    seconds = [_open_seconds(venue_id)]
    for _ in range(6):
        _open_over(venue_id)
        assert breaker_admit(venue_ids=[venue_id]) == {venue_id}
        _fail(venue_id, 1)
        seconds.append(_open_seconds(venue_id))
    assert seconds == [30, 60, 120, 240, 480, 600, 600]


@pytest.mark.django_db
def test_straggler_that_fails_while_it_is_open_does_not_prolong_it() -> None:
    venue_id = _venue()
    _fail(venue_id, FAILURES_TO_OPEN)
    before = VenueHealth.objects.get(venue_id=venue_id)
    _fail(venue_id, 3)
    after = VenueHealth.objects.get(venue_id=venue_id)
    assert (after.open_until, after.times_opened) == (before.open_until, 1)


@pytest.mark.django_db
def test_healthy_venue_is_not_written_each_time(django_assert_num_queries: Callable[..., Any]) -> None:
    venue_id = _venue()
    breaker_record(succeeded=[venue_id], failed={})
    first = VenueHealth.objects.get(venue_id=venue_id).updated_at
    with django_assert_num_queries(2):
        breaker_admit(venue_ids=[venue_id])
        breaker_record(succeeded=[venue_id], failed={})
    assert VenueHealth.objects.get(venue_id=venue_id).updated_at == first


_UNGUARDED = (
    "UPDATE providers_venuehealth SET probe_until = clock_timestamp() + interval '10 s' WHERE venue_id = %s"
)


def _together(count: int, act: Callable[[Barrier], bool]) -> int:
    """How many of `count` threads, each with its own connection, got a True."""
    barrier = Barrier(count)

    def run(_: int) -> bool:
        try:
            return act(barrier)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(run, range(count)))


@pytest.mark.django_db(transaction=True)
def test_of_many_callers_at_once_one_takes_the_probe() -> None:
    venue_id = _venue()
    _fail(venue_id, FAILURES_TO_OPEN)

    # First the race, with the condition left out of the UPDATE: look, meet, take. Everybody probes.
    def unguarded(barrier: Barrier) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT probe_until IS NULL FROM providers_venuehealth WHERE venue_id = %s", [venue_id]
            )
            free = bool(cursor.fetchone()[0])
            barrier.wait(timeout=10)
            if free:
                cursor.execute(_UNGUARDED, [venue_id])
            return free

    _open_over(venue_id)
    assert _together(8, unguarded) == 8

    # Then the real one: everybody sees that the time has passed, one takes it.
    def guarded(barrier: Barrier) -> bool:
        barrier.wait(timeout=10)
        return breaker_admit(venue_ids=[venue_id]) == {venue_id}

    for _ in range(5):
        _open_over(venue_id)
        assert _together(8, guarded) == 1


@pytest.mark.django_db(transaction=True)
def test_failures_of_many_processes_at_once_are_all_counted() -> None:
    venue_id = _venue()

    def fail(barrier: Barrier) -> bool:
        barrier.wait(timeout=10)
        _fail(venue_id, 5)
        return True

    assert _together(6, fail) == 6
    assert VenueHealth.objects.get(venue_id=venue_id).consecutive_failures == 30


def test_venue_that_reverts_is_left_out_and_comes_back(house: House) -> None:
    # given a venue whose only pool does not exist, beside a good one
    pair = house.market("USDC", "WETH")
    house.v3_route(pair, 10_000)
    house.v2_route(pair)
    for _ in range(FAILURES_TO_OPEN):
        assert len(quotes_best(market_id=pair.pk, amount_in_units=10**6).considered) == 2
    # then it is not asked any more
    quote = quotes_best(market_id=pair.pk, amount_in_units=10**6)
    assert [entry["venue_id"] for entry in quote.considered] == [str(house.v2.pk)]
    # and alone it leaves nobody to ask
    pair.routes.filter(venue=house.v2).delete()
    with pytest.raises(NoRoute, match="no healthy venue"):
        quotes_best(market_id=pair.pk, amount_in_units=10**6)
    # when its time has passed and its pool is right, the probe closes the breaker
    pair.routes.update(pool_fees=[500])
    _open_over(house.v3.pk)
    assert quotes_best(market_id=pair.pk, amount_in_units=10**6).venue_id == house.v3.pk
    assert VenueHealth.objects.get(venue=house.v3).open_until is None


def test_amount_that_is_too_large_is_not_the_venues_fault(house: House) -> None:
    pair = house.market("WETH", "USDC")
    house.v3_route(pair, 500)
    for _ in range(FAILURES_TO_OPEN + 1):
        with pytest.raises(NoRoute, match="whole amount"):
            quotes_best(market_id=pair.pk, amount_in_units=10**40)
    assert quotes_best(market_id=pair.pk, amount_in_units=10**18).venue_id == house.v3.pk


@pytest.mark.django_db
def test_outcome_of_a_swap_counts_like_a_quotes() -> None:
    venue_id = _venue()
    for _ in range(FAILURES_TO_OPEN):
        venue_outcome_record(venue_id=venue_id, error="the swap reverted")
    assert breaker_admit(venue_ids=[venue_id]) == set()
    venue_outcome_record(venue_id=venue_id)
    assert breaker_admit(venue_ids=[venue_id]) == {venue_id}
