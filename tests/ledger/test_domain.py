"""The pure values."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from apps.core.ids import uuid7_hexes, uuid7_time
from apps.ledger.domain import Posting, content_fingerprint, postings_net

accounts = st.integers(1, 4).map(lambda number: UUID(int=number))
postings = st.lists(st.builds(Posting, accounts, st.integers(-3, 3)), max_size=6)


def fingerprint(items: list[Posting]) -> bytes:
    return content_fingerprint(kind="test", net=postings_net(items), metadata_json="{}")


@given(items=postings, shuffled=st.randoms())
def test_the_order_and_the_splitting_of_postings_do_not_change_a_fingerprint(
    items: list[Posting], shuffled: object
) -> None:
    others = [*items, Posting(UUID(int=9), 5), Posting(UUID(int=9), -5)]
    shuffled.shuffle(others)  # type: ignore[attr-defined]

    assert fingerprint(others) == fingerprint(items)


@given(first=postings, second=postings)
def test_fingerprints_are_equal_exactly_when_the_net_amounts_are(
    first: list[Posting], second: list[Posting]
) -> None:
    assert (fingerprint(first) == fingerprint(second)) == (postings_net(first) == postings_net(second))


@given(count=st.integers(1, 3_000), at=st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001
def test_ids_of_one_call_rise_and_keep_their_instant(count: int, at: datetime) -> None:
    moment = at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)

    made = [UUID(hex=text) for text in uuid7_hexes(count, moment)]

    assert len(made) == count
    assert made == sorted(set(made))
    assert {(made[n].version, made[n].variant, uuid7_time(made[n])) for n in (0, -1)} == {
        (7, "specified in RFC 4122", moment)
    }
