import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from apps.core.ids import uuid7, uuid7_floor, uuid7_many, uuid7_time

instants = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(instants)
def test_an_id_carries_its_instant_to_the_millisecond(at: datetime) -> None:
    made = uuid7(at)

    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert uuid7_time(made) == at.replace(microsecond=at.microsecond // 1000 * 1000)


@given(instants, st.integers(0, 3_000))
def test_many_ids_of_one_instant_ascend_and_are_valid(at: datetime, count: int) -> None:
    made = uuid7_many(count, at)

    assert made == sorted(set(made))
    assert len(made) == count
    assert {(one.version, one.variant, uuid7_time(one)) for one in made[:1] + made[-1:]} <= {
        (7, uuid.RFC_4122, at.replace(microsecond=at.microsecond // 1000 * 1000))
    }


@given(instants)
def test_the_floor_bounds_every_id_of_its_instant_and_none_before(at: datetime) -> None:
    millisecond = timedelta(milliseconds=1)

    assert uuid7(at - millisecond) < uuid7_floor(at) <= uuid7(at)
    assert uuid7_floor(at) <= min(uuid7_many(5, at))


def test_ids_made_apart_do_not_repeat() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)

    made = {uuid7(at) for _ in range(5_000)} | {one for _ in range(200) for one in uuid7_many(25, at)}

    assert len(made) == 10_000
