from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import pairwise
from time import thread_time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apps.plans.schedule import Kind, ScheduleError, ScheduleRule
from apps.plans.schedule_text import describe
from apps.plans.zones import skipped_days, zone_get, zone_names
from tests.plans.walk import ODD_TIMES, clock_changes, fired, instant_of, walk

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
ZONES = sorted({zone for zone, _ in ODD_TIMES})


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def rule(kind: str, zone: str, anchor: datetime, **rest: object) -> ScheduleRule:
    return ScheduleRule.parse(kind=kind, zone=zone, anchor=anchor, **rest)


def first(subject: ScheduleRule, count: int) -> list[datetime]:
    return [subject.occurrence(number) for number in range(1, count + 1)]


def shown(subject: ScheduleRule, count: int) -> list[str]:
    zone = zone_get(subject.zone)
    return [instant.astimezone(zone).isoformat(" ", "minutes") for instant in first(subject, count)]


# --- examples of design.md


def test_a_time_in_a_gap_runs_at_the_earlier_offsets_equivalent() -> None:
    subject = rule("daily", "Europe/Berlin", utc(2026, 3, 27, 12), at="02:30")
    assert shown(subject, 3) == [
        "2026-03-28 02:30+01:00",
        "2026-03-29 03:30+02:00",
        "2026-03-30 02:30+02:00",
    ]


def test_a_time_in_an_overlap_runs_once_at_its_first_occurrence() -> None:
    subject = rule("daily", "Europe/Berlin", utc(2026, 10, 24, 12), at="02:30")
    assert first(subject, 2) == [utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30)]


def test_an_anchor_in_the_second_pass_of_an_overlap_waits_for_the_next_day() -> None:
    subject = rule("daily", "Europe/Berlin", utc(2026, 10, 25, 1, 15), at="02:30")
    assert first(subject, 1) == [utc(2026, 10, 26, 1, 30)]


def test_every_n_hours_is_elapsed_time_across_both_changes() -> None:
    spring = rule("hourly", "Europe/Berlin", utc(2026, 3, 28, 23), interval=2)
    assert shown(spring, 3) == [
        "2026-03-29 00:00+01:00",
        "2026-03-29 03:00+02:00",
        "2026-03-29 05:00+02:00",
    ]
    autumn = rule("hourly", "Europe/Berlin", utc(2026, 10, 25, 0))
    assert shown(autumn, 3) == [
        "2026-10-25 02:00+02:00",
        "2026-10-25 02:00+01:00",
        "2026-10-25 03:00+01:00",
    ]


def test_month_ends_clamp_and_do_not_drift() -> None:
    subject = rule("monthly", "Europe/Berlin", utc(2027, 1, 31), at="09:00")
    dates = [text[:10] for text in shown(subject, 14)]
    assert dates[:4] == ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30"]
    assert dates[13] == "2028-02-29"


@pytest.mark.parametrize(
    ("day", "expected"),
    [(28, "02-28 03-28"), (29, "02-29 03-29"), (30, "02-29 03-30"), (31, "02-29 03-31")],
)
def test_a_day_of_the_month_may_be_named_apart_from_the_anchor(day: int, expected: str) -> None:
    subject = rule("monthly", "America/New_York", utc(2024, 2, 1, 12), at="00:00", day=day)
    assert " ".join(text[5:10] for text in shown(subject, 2)) == expected


def test_the_local_date_of_the_anchor_counts_not_the_utc_one() -> None:
    # 1 February in Auckland while it is still 31 January in UTC.
    subject = rule("monthly", "Pacific/Auckland", utc(2026, 1, 31, 12), at="08:00")
    assert [text[:10] for text in shown(subject, 2)] == ["2026-02-01", "2026-03-01"]


def test_a_day_that_never_was_makes_one_run_not_two() -> None:
    subject = rule("daily", "Pacific/Apia", utc(2011, 12, 29, 12), at="09:00")
    assert shown(subject, 3) == [
        "2011-12-29 09:00-10:00",
        "2011-12-31 09:00+14:00",
        "2012-01-01 09:00+14:00",
    ]
    assert subject.next_after(utc(2011, 12, 30, 19)).number == 3


def test_a_run_that_a_gap_moves_past_midnight_is_still_ahead_after_midnight() -> None:
    # Nuuk's clock jumps from 23:00 to 00:00: the run of the 29th takes place on the 30th.
    subject = rule("daily", "America/Nuuk", utc(2025, 3, 28), at="23:30")
    moved = subject.occurrence(3)
    assert moved == utc(2025, 3, 30, 1, 30)
    assert shown(subject, 4)[2:] == ["2025-03-30 00:30-01:00", "2025-03-30 23:30-01:00"]
    assert subject.next_after(utc(2025, 3, 30, 1, 15)) == (3, moved)


def test_a_weekly_run_on_a_day_that_never_was_moves_to_the_next() -> None:
    subject = rule("weekly", "Pacific/Apia", utc(2011, 12, 20), at="09:00", weekdays=[5])
    assert [text[:10] for text in shown(subject, 3)] == ["2011-12-23", "2011-12-31", "2012-01-06"]


def test_skipped_days_are_known_for_each_zone_that_crossed_the_date_line() -> None:
    crossed = {date.fromordinal(day).isoformat() for name in zone_names() for day in skipped_days(name)}
    assert crossed == {
        "1993-08-21",
        "1994-12-31",
        "2011-12-30",
    }  # Kwajalein; Kiritimati, Enderbury; Apia, Fakaofo
    assert skipped_days("Pacific/Apia") == (date(2011, 12, 30).toordinal(),)


# --- against the walker


def matcher(subject: ScheduleRule) -> Callable[[datetime], bool]:
    """What the rule's words say of one wall-clock minute."""
    origin = subject.anchor.astimezone(zone_get(subject.zone)).date()
    monday = origin - timedelta(days=origin.weekday())

    def on_day(day: date) -> bool:
        if subject.kind is Kind.DAILY:
            return day >= origin and (day - origin).days % subject.interval == 0
        if subject.kind is Kind.WEEKLY:
            wanted = subject.weekdays or (origin.isoweekday(),)
            weeks = (day - monday).days // 7
            return weeks >= 0 and weeks % subject.interval == 0 and day.isoweekday() in wanted
        months = (day.year - origin.year) * 12 + day.month - origin.month
        last = monthrange(day.year, day.month)[1]
        wanted_day = min(subject.day or origin.day, last)
        return months >= 0 and months % subject.interval == 0 and day.day == wanted_day

    return lambda wall: wall.time() == subject.at and on_day(wall.date())


@st.composite
def wall_rules(draw: st.DrawFn, zone: str, near: date, days_before: int) -> ScheduleRule:
    kind = draw(st.sampled_from([Kind.DAILY, Kind.WEEKLY, Kind.MONTHLY]))
    minute = draw(st.integers(0, 48 * 60 - 1))
    anchor = datetime.combine(near, time(), UTC) - draw(st.integers(0, days_before)) * DAY
    anchor += timedelta(minutes=minute)
    hour = draw(st.sampled_from([0, 0, 1, 2, 2, 3, 9, 12, 23]))
    return ScheduleRule(
        kind,
        zone,
        anchor,
        draw(st.integers(1, 3)),
        time(hour, draw(st.sampled_from([0, 1, 10, 15, 29, 30, 31, 45, 59]))),
        tuple(sorted(draw(st.sets(st.integers(1, 7))))) if kind is Kind.WEEKLY else (),
        draw(st.none() | st.integers(28, 31)) if kind is Kind.MONTHLY else None,
    )


@st.composite
def odd_rules(draw: st.DrawFn) -> tuple[ScheduleRule, date]:
    zone, middle = draw(st.sampled_from(ODD_TIMES))
    subject = draw(wall_rules(zone, middle, 6))
    subject.validate()
    return subject, middle


@settings(max_examples=400, deadline=None)
@given(odd_rules())
def test_wall_rules_near_odd_times_agree_with_a_walk_minute_by_minute(
    case: tuple[ScheduleRule, date],
) -> None:
    subject, middle = case
    steps = walk(subject.zone, middle, 12)
    expected = [instant for instant in fired(steps, matcher(subject)) if instant >= subject.anchor]
    found = subject.between(subject.anchor, steps[-1][0] + timedelta(minutes=1), 1000)
    # The last day is left out: a run that a jump beyond the walk would move is not in it.
    horizon = steps[-1][0] - 2 * DAY
    assert [o.scheduled_at for o in found if o.scheduled_at < horizon] == [i for i in expected if i < horizon]
    assert [o.number for o in found] == list(range(1, len(found) + 1))
    assert first(subject, len(found)) == [o.scheduled_at for o in found]


@st.composite
def long_rules(draw: st.DrawFn) -> ScheduleRule:
    zone = draw(st.sampled_from(ZONES))
    near = draw(st.dates(date(1976, 1, 1), date(2042, 1, 1)))
    return draw(wall_rules(zone, near, 0))


@settings(max_examples=150, deadline=None)
@given(long_rules())
@example(rule("daily", "America/Nuuk", utc(2020, 1, 1), at="23:01"))
def test_wall_rules_over_years_agree_with_a_walk_day_by_day(subject: ScheduleRule) -> None:
    changes = clock_changes(subject.zone, 1975, 2050)
    matches, at = matcher(subject), subject.at
    assert at is not None
    start = subject.anchor.date() - 40 * DAY
    walls = (datetime.combine(start + n * DAY, at) for n in range(4 * 366))
    model = {instant_of(changes, wall) for wall in walls if matches(wall)}
    expected = sorted(instant for instant in model if instant >= subject.anchor)
    assert first(subject, len(expected)) == expected


# --- the questions agree with each other


@st.composite
def any_rules(draw: st.DrawFn) -> ScheduleRule:
    if draw(st.booleans()):
        return draw(long_rules())
    anchor = draw(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
    return ScheduleRule(Kind.HOURLY, draw(st.sampled_from(ZONES)), anchor, draw(st.integers(1, 8784)))


@settings(max_examples=300, deadline=None)
@given(any_rules(), st.integers(1, 5000))
@example(rule("daily", "Pacific/Apia", utc(2011, 12, 1), at="09:00"), 30)
def test_numbers_instants_and_next_after_agree_and_ascend(subject: ScheduleRule, number: int) -> None:
    instants = [subject.occurrence(n) for n in range(number, number + 4)]
    assert all(a < b for a, b in pairwise(instants))
    assert all(instant.tzinfo is UTC for instant in instants)
    for n, (here, there) in enumerate(pairwise(instants), number):
        assert subject.next_after(here - TICK) == (n, here)
        assert subject.next_after(here) == (n + 1, there)
        assert subject.next_after(there - TICK) == (n + 1, there)
    assert subject.tail(instants[0], instants[-1], at_most=None, keep=2) == (3, tuple(instants[2:]))
    assert subject.tail(instants[0], instants[-1] - TICK, at_most=None, keep=9) == (2, tuple(instants[1:3]))
    assert subject.tail(instants[0], instants[-1], at_most=1, keep=9) == (1, (instants[1],))


@given(any_rules(), st.integers(0, 10**6))
def test_before_the_anchor_the_first_occurrence_is_next(subject: ScheduleRule, seconds: int) -> None:
    assert subject.next_after(subject.anchor - timedelta(seconds=seconds, microseconds=1)) == (
        1,
        subject.occurrence(1),
    )
    assert subject.occurrence(1) >= subject.anchor


@given(any_rules())
def test_the_zone_in_which_an_instant_is_written_does_not_matter(subject: ScheduleRule) -> None:
    here = subject.occurrence(7)
    for zone in (ZoneInfo(subject.zone), timezone(timedelta(hours=-9))):
        moved = ScheduleRule(
            subject.kind, subject.zone, subject.anchor.astimezone(zone), subject.interval, subject.at,
            subject.weekdays, subject.day,
        )  # fmt: skip
        assert moved == subject
        assert moved.next_after(here.astimezone(zone)) == subject.next_after(here)


def test_subtraction_inside_one_zone_counts_elapsed_time() -> None:
    # Python subtracts two datetimes of one ZoneInfo by their wall time, which would lose the hour here.
    berlin = ZoneInfo("Europe/Berlin")
    subject = rule("hourly", "Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=berlin))
    assert subject.next_after(datetime(2026, 3, 29, 3, tzinfo=berlin)) == (3, utc(2026, 3, 29, 2))


def test_between_is_half_open_and_limited() -> None:
    subject = rule("daily", "UTC", utc(2026, 1, 1), at="00:00")
    found = subject.between(utc(2026, 1, 2), utc(2026, 1, 5), 10)
    assert found == [(2, utc(2026, 1, 2)), (3, utc(2026, 1, 3)), (4, utc(2026, 1, 4))]
    assert subject.between(utc(2026, 1, 2), utc(2026, 1, 5), 2) == found[:2]
    assert subject.between(utc(2026, 1, 2), utc(2026, 1, 5), 0) == []


# --- bad input


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "yearly"}, "bad_kind", "kind"),
    ({"kind": None}, "bad_kind", "kind"),
    ({"kind": ["daily"]}, "bad_kind", "kind"),
    ({"zone": "Mars/Olympus"}, "unknown_zone", "zone"),
    ({"zone": "../../etc/passwd"}, "unknown_zone", "zone"),
    ({"zone": "europe/berlin"}, "unknown_zone", "zone"),
    ({"zone": ""}, "unknown_zone", "zone"),
    ({"zone": "A" * 10**6}, "unknown_zone", "zone"),
    ({"zone": 1}, "bad_zone", "zone"),
    ({"anchor": datetime(2026, 1, 1)}, "bad_anchor", "anchor"),  # noqa: DTZ001
    ({"anchor": utc(1969, 1, 1)}, "bad_anchor", "anchor"),
    ({"anchor": utc(9999, 12, 31)}, "bad_anchor", "anchor"),
    ({"anchor": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}, "bad_anchor", "anchor"),
    ({"interval": 0}, "bad_interval", "interval"),
    ({"interval": -1}, "bad_interval", "interval"),
    ({"interval": 367}, "bad_interval", "interval"),
    ({"interval": 10**30}, "bad_interval", "interval"),
    ({"interval": True}, "bad_interval", "interval"),
    ({"interval": 1.5}, "bad_interval", "interval"),
    ({"interval": "1"}, "bad_interval", "interval"),
    ({"kind": "hourly", "at": None, "interval": 8785}, "bad_interval", "interval"),
    ({"kind": "weekly", "interval": 54}, "bad_interval", "interval"),
    ({"kind": "monthly", "interval": 13}, "bad_interval", "interval"),
    ({"at": None}, "bad_time", "at"),
    ({"at": "24:00"}, "bad_time", "at"),
    ({"at": "9:00"}, "bad_time", "at"),
    ({"at": "09:00:30"}, "bad_time", "at"),
    ({"at": "09:00\n"}, "bad_time", "at"),
    ({"at": "٠٩:٠٠"}, "bad_time", "at"),
    ({"at": 900}, "bad_time", "at"),
    ({"at": time(9, 0, 1)}, "bad_time", "at"),
    ({"at": time(9, tzinfo=UTC)}, "bad_time", "at"),
    ({"kind": "hourly"}, "not_applicable", "at"),
    ({"weekdays": [1]}, "not_applicable", "weekdays"),
    ({"kind": "weekly", "weekdays": [0]}, "bad_weekdays", "weekdays"),
    ({"kind": "weekly", "weekdays": [8]}, "bad_weekdays", "weekdays"),
    ({"kind": "weekly", "weekdays": [1, 1]}, "bad_weekdays", "weekdays"),
    ({"kind": "weekly", "weekdays": [True]}, "bad_weekdays", "weekdays"),
    ({"kind": "weekly", "weekdays": "1"}, "bad_weekdays", "weekdays"),
    ({"kind": "weekly", "weekdays": ["mon"]}, "bad_weekdays", "weekdays"),
    ({"day": 3}, "not_applicable", "day"),
    ({"kind": "monthly", "day": 0}, "bad_day", "day"),
    ({"kind": "monthly", "day": 32}, "bad_day", "day"),
    ({"kind": "monthly", "day": "31"}, "bad_day", "day"),
    ({"cron": "* * * * *"}, "not_applicable", "cron"),
    ({"kind": "cron", "at": None, "cron": 5}, "bad_cron", "cron"),
    ({"kind": "cron", "at": None, "cron": ""}, "bad_cron", "cron"),
    ({"kind": "cron", "at": None, "cron": "0 9 * * *", "interval": 2}, "bad_interval", "interval"),
]


@pytest.mark.parametrize(("change", "code", "field"), BAD)
def test_bad_input_is_refused_by_code_and_field(change: dict[str, Any], code: str, field: str) -> None:
    good: dict[str, Any] = {"kind": "daily", "zone": "UTC", "anchor": utc(2026, 1, 1), "at": "09:00"}
    assert ScheduleRule.parse(**good).next_after(utc(2026, 1, 1)).number == 1
    with pytest.raises(ScheduleError) as caught:
        ScheduleRule.parse(**(good | change))
    assert (caught.value.code, caught.value.field) == (code, field)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "subject",
    [
        rule("hourly", "UTC", utc(2026, 1, 1)),
        rule("daily", "Europe/Berlin", utc(2026, 1, 1), at="09:00"),
        rule("weekly", "Europe/Berlin", utc(2026, 1, 1), at="09:00", weekdays=[1, 5]),
        rule("monthly", "Europe/Berlin", utc(2026, 1, 1), at="09:00"),
        rule("cron", "Europe/Berlin", utc(2026, 1, 1), cron="0 9 * * *"),
    ],
)
def test_past_the_calendars_end_nothing_is_promised(subject: ScheduleRule) -> None:
    with pytest.raises(ScheduleError, match="9990"):
        subject.next_after(utc(9990, 12, 31, 23, 59))
    with pytest.raises(ScheduleError, match="9990"):
        subject.next_after(datetime.max.replace(tzinfo=UTC))
    with pytest.raises(ScheduleError, match="9990"):
        subject.occurrence(0)
    if subject.kind is not Kind.CRON:
        with pytest.raises(ScheduleError, match="9990"):
            subject.occurrence(10**30)
    assert subject.between(utc(9990, 11, 15), datetime.max.replace(tzinfo=UTC), 100)


def test_a_far_occurrence_costs_no_more_than_a_near_one() -> None:
    subject = rule("daily", "Europe/Berlin", utc(2026, 1, 1), at="09:00")
    subject.occurrence(1)
    started = thread_time()
    for number in range(1_000_000, 1_001_000):
        subject.occurrence(number)
    assert thread_time() - started < 0.5  # counting through would take seconds for each


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (rule("hourly", "UTC", utc(2026, 1, 1)), "every hour"),
        (rule("hourly", "UTC", utc(2026, 1, 1), interval=6), "every 6 hours"),
        (rule("daily", "Europe/Berlin", utc(2026, 1, 1), at="09:00"), "every day at 09:00 Europe/Berlin"),
        (rule("daily", "UTC", utc(2026, 1, 1), at="00:05", interval=3), "every 3 days at 00:05 UTC"),
        (rule("weekly", "UTC", utc(2026, 1, 1), at="09:00"), "every week on Thursday at 09:00 UTC"),
        (
            rule("weekly", "UTC", utc(2026, 1, 1), at="09:00", weekdays=[7, 1, 3], interval=2),
            "every 2 weeks on Monday, Wednesday and Sunday at 09:00 UTC",
        ),
        (rule("monthly", "UTC", utc(2026, 1, 22), at="09:00"), "every month on the 22nd at 09:00 UTC"),
        (rule("monthly", "UTC", utc(2026, 1, 11), at="09:00"), "every month on the 11th at 09:00 UTC"),
        (
            rule("monthly", "UTC", utc(2026, 1, 1), at="09:00", day=31, interval=3),
            "every 3 months on the 31st (or the month's last day) at 09:00 UTC",
        ),
        (rule("cron", "UTC", utc(2026, 1, 1), cron=" 0  9 * * 1-5 "), "at cron 0 9 * * 1-5 UTC"),
    ],
)
def test_a_rule_is_described_in_words(subject: ScheduleRule, words: str) -> None:
    assert describe(subject) == words
