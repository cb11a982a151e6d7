from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from time import thread_time

import pytest
from croniter import croniter
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from apps.plans.cron import cron_parse
from apps.plans.schedule import ScheduleError, ScheduleRule
from apps.plans.zones import zone_get
from tests.plans.walk import ODD_TIMES, clock_changes, fired, instant_of, walk

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def cron(expression: str, zone: str = "Europe/Berlin", *, anchor: datetime) -> ScheduleRule:
    return ScheduleRule.parse(kind="cron", zone=zone, anchor=anchor, cron=expression)


def shown(subject: ScheduleRule, count: int) -> list[str]:
    zone = zone_get(subject.zone)
    found = subject.between(subject.anchor, datetime(9000, 1, 1, tzinfo=UTC), count)
    return [o.scheduled_at.astimezone(zone).strftime("%d %H:%M%z") for o in found]


@st.composite
def fields(draw: st.DrawFn, low: int, high: int, *, steps: bool = True, star: bool = True) -> str:
    form = draw(st.sampled_from(["*", "*/", "list", "list", "range", "range/"]))
    if form == "*" and star:
        return "*"
    if form == "*/" and steps:
        return f"*/{draw(st.integers(1, high))}"
    if form.startswith("range"):
        start = draw(st.integers(low, high - 1))
        end = draw(st.integers(start + 1, high))
        return f"{start}-{end}" + (f"/{draw(st.integers(1, min(9, high)))}" if form == "range/" else "")
    return ",".join(str(n) for n in draw(st.lists(st.integers(low, high), min_size=1, max_size=4)))


@st.composite
def expressions(draw: st.DrawFn, *, often: bool = False) -> str:
    minute, hour = (
        draw(fields(0, 59)),
        draw(fields(0, 23) if not often else st.sampled_from(["*", "0-3", "*/2"])),
    )
    if often:
        days = ("*", "*", "*")
    else:
        which = draw(st.sampled_from(["days", "weekdays", "both", "neither"]))
        days = (
            draw(fields(1, 31, steps=which == "days", star=False)) if which in {"days", "both"} else "*",
            draw(fields(1, 12)),
            draw(fields(0, 6, steps=which == "weekdays", star=False))
            if which in {"weekdays", "both"}
            else "*",
        )
    return " ".join((minute, hour, *days))


def parses(expression: str) -> bool:
    """Whether it is read; the grammar of the strategies leaves only two reasons against it."""
    code = ""
    try:
        cron_parse(expression)
    except ScheduleError as error:
        code = error.code
    assert code in {"", "ambiguous_cron", "never_fires"}, expression
    return not code


@settings(max_examples=400, deadline=None)
@given(expressions(), st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1)))  # noqa: DTZ001
@example("0 0 29 2 *", datetime(2096, 3, 1))  # noqa: DTZ001  2100 is no leap year
@example("0 0 29 2 1", datetime(2026, 1, 1))  # noqa: DTZ001
@example("15 9 * JAN-mar Mon-Fri", datetime(2026, 12, 31, 23, 59))  # noqa: DTZ001
@example("0 0 * * 7", datetime(2026, 1, 1))  # noqa: DTZ001
@example("0 0 * * 5-7", datetime(2026, 1, 1))  # noqa: DTZ001
def test_naive_matches_are_those_of_croniter(expression: str, start: datetime) -> None:
    assume(parses(expression))
    pattern = cron_parse(expression)
    reference = croniter(expression, start - MINUTE if start.second == start.microsecond == 0 else start)
    wall = start
    for _ in range(5):
        wall = pattern.at_or_after(wall)
        assert wall == reference.get_next(datetime)
        wall += MINUTE


def matcher(expression: str) -> Callable[[datetime], bool]:
    sets = croniter.expand(expression)[0]

    def has(index: int, value: int) -> bool:
        return "*" in sets[index] or value in sets[index]

    def matches(wall: datetime) -> bool:
        day, weekday = has(2, wall.day), has(4, wall.isoweekday() % 7)
        either = sets[2] != ["*"] and sets[4] != ["*"]
        on_day = (day or weekday) if either else (day and weekday)
        return has(0, wall.minute) and has(1, wall.hour) and has(3, wall.month) and on_day

    return matches


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(expressions(), expressions(often=True)), st.sampled_from(ODD_TIMES), st.integers(0, 2 * 24 * 60)
)
@example("* * * * *", ("Europe/Berlin", date(2026, 3, 29)), 0)
@example("* * * * *", ("Europe/Berlin", date(2026, 10, 25)), 0)
@example("*/7 1-3 * * *", ("Europe/Berlin", date(2026, 3, 29)), 0)
@example("50 2 * * *", ("Europe/Berlin", date(2026, 3, 29)), 0)
@example("50,5 2,3 * * *", ("Europe/Berlin", date(2026, 3, 29)), 0)
@example("*/10 * * * *", ("Pacific/Apia", date(2011, 12, 30)), 0)
@example("0 9 30 * *", ("Pacific/Apia", date(2011, 12, 30)), 0)
@example("1 23 * * *", ("America/Nuuk", date(2023, 10, 29)), 0)
@example("*/20 22-23 * * *", ("America/Nuuk", date(2023, 10, 29)), 0)
@example("20,30 2 * * *", ("Australia/Lord_Howe", date(2025, 10, 5)), 0)
@example("*/5 * * * *", ("Australia/Lord_Howe", date(2025, 10, 5)), 0)
def test_cron_near_odd_times_agrees_with_a_walk_minute_by_minute(
    expression: str, odd: tuple[str, date], minutes: int
) -> None:
    assume(parses(expression))
    zone, middle = odd
    steps = walk(zone, middle, 4)
    horizon = steps[-1][0] - 2 * DAY
    anchor = steps[0][0] + 2 * DAY + minutes * MINUTE
    subject = cron(expression, zone, anchor=anchor)
    expected = [i for i in fired(steps, matcher(expression)) if anchor <= i < horizon]
    found = [o.scheduled_at for o in subject.between(anchor, horizon, 10_000)]
    assert found == expected
    # Asked from anywhere, not only from one match to the next.
    for here, there in list(pairwise(expected))[:: max(len(expected) // 20, 1)]:
        assert subject.next_after(there - timedelta(microseconds=1)) == (None, there)
        assert subject.next_after(here + (there - here) / 2) == (None, there)


@st.composite
def daily_at_most(draw: st.DrawFn) -> str:
    minute, hour = draw(st.integers(0, 59)), draw(st.sampled_from([0, 1, 2, 3, 9, 22, 23]))
    days = draw(st.sampled_from(["* * *", "* * 1-5", "28-31 * *", "13 */3 1", "* 3,10,11 sun"]))
    return f"{minute} {hour} {days}"


@settings(max_examples=100, deadline=None)
@given(
    daily_at_most(),
    st.sampled_from(sorted({zone for zone, _ in ODD_TIMES})),
    st.dates(date(1976, 1, 1), date(2042, 1, 1)),
)
@example("1 23 * * *", "America/Nuuk", date(2021, 1, 1))
def test_cron_over_years_agrees_with_a_walk_day_by_day(expression: str, zone: str, near: date) -> None:
    changes, matches = clock_changes(zone, 1975, 2050), matcher(expression)
    anchor = datetime.combine(near, time(), UTC)
    minute, hour = map(int, expression.split()[:2])
    walls = (datetime.combine(near + n * DAY, time(hour, minute)) for n in range(-2, 3 * 366))
    model = {instant_of(changes, wall) for wall in walls if matches(wall)}
    expected = sorted(instant for instant in model if instant >= anchor)[:-1]
    subject = cron(expression, zone, anchor=anchor)
    assert [
        o.scheduled_at for o in subject.between(anchor, anchor + 4 * 366 * DAY, len(expected))
    ] == expected


def test_in_a_gap_a_cron_run_moves_forward_and_meets_its_like_once() -> None:
    anchor = datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert shown(cron("30 2 * * *", anchor=anchor), 2) == ["29 03:30+0200", "30 02:30+0200"]
    assert shown(cron("30 1-4 * * *", anchor=anchor), 3) == [
        "29 01:30+0100",
        "29 03:30+0200",
        "29 04:30+0200",
    ]
    # Half an hour in Lord Howe: 02:20 moves to 02:50, past 02:30, which is not held up by it.
    anchor = datetime(2025, 10, 4, 14, tzinfo=UTC)
    half = cron("20,30 2 * * *", "Australia/Lord_Howe", anchor=anchor)
    assert shown(half, 3) == ["05 02:30+1100", "05 02:50+1100", "06 02:20+1100"]


def test_in_an_overlap_a_cron_run_happens_the_first_time_only() -> None:
    anchor = datetime(2026, 10, 24, 22, tzinfo=UTC)
    found = shown(cron("0 * * * *", anchor=anchor), 5)
    assert found == ["25 00:00+0200", "25 01:00+0200", "25 02:00+0200", "25 03:00+0100", "25 04:00+0100"]


def test_occurrences_of_cron_are_counted_from_the_anchor() -> None:
    subject = cron("0 9 * * 1-5", "UTC", anchor=datetime(2026, 1, 2, 9, tzinfo=UTC))
    assert subject.occurrence(1) == datetime(2026, 1, 2, 9, tzinfo=UTC)
    assert subject.occurrence(2) == datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert subject.next_after(datetime(2020, 1, 1, tzinfo=UTC)) == (None, subject.occurrence(1))


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("0 0 30 2 *", "never_fires"),
        ("0 0 31 2,4,6,9,11 *", "never_fires"),
        ("0 0 30-31 feb *", "never_fires"),
        ("0 0 */2 * 1", "ambiguous_cron"),
        ("0 0 1-31 * 1", "ambiguous_cron"),
        ("0 0 13 * 0-6", "ambiguous_cron"),
        ("0 0 13 * */2", "ambiguous_cron"),
        ("", "bad_cron"),
        ("* * * *", "bad_cron"),
        ("0 * * * * *", "bad_cron"),
        ("0 0 * * * 2030", "bad_cron"),
        ("* * * * * * *", "bad_cron"),
        ("@daily", "bad_cron"),
        ("60 * * * *", "bad_cron"),
        ("0 24 * * *", "bad_cron"),
        ("0 0 0 * *", "bad_cron"),
        ("0 0 32 * *", "bad_cron"),
        ("0 0 * 13 *", "bad_cron"),
        ("0 0 * * 8", "bad_cron"),
        ("-1 * * * *", "bad_cron"),
        ("5-1 * * * *", "bad_cron"),
        ("0 22-2 * * *", "bad_cron"),
        ("0 0 * * fri-mon", "bad_cron"),
        ("*/0 * * * *", "bad_cron"),
        ("*/60 * * * *", "bad_cron"),
        ("*/99999999999 * * * *", "bad_cron"),
        ("5/10 * * * *", "bad_cron"),
        ("*-5 * * * *", "bad_cron"),
        ("1-2-3 * * * *", "bad_cron"),
        ("1,,2 * * * *", "bad_cron"),
        (",1 * * * *", "bad_cron"),
        ("1,* * * * *", "bad_cron"),
        ("**,1 * * * *", "bad_cron"),
        ("0 0 l * *", "bad_cron"),
        ("0 0 * * 1#2", "bad_cron"),
        ("0 0 ? * *", "bad_cron"),
        ("0 0 15w * *", "bad_cron"),
        ("h h * * *", "bad_cron"),
        ("r r * * *", "bad_cron"),
        ("mon * * * *", "bad_cron"),
        ("0 0 * sun *", "bad_cron"),
        ("٥ * * * *", "bad_cron"),
        ("0 0 * * *\n", "bad_cron"),
        ("0\t0 * * *", "bad_cron"),
        ("0 0 * * *\x00", "bad_cron"),
        ("1." + "0 * * * *", "bad_cron"),
        ("000000005 * * * *", "bad_cron"),
        ("*" * 10**6, "bad_cron"),
        (",".join(["1"] * 10**6) + " * * * *", "bad_cron"),
        (" " * 10**6 + "* * * * *", "bad_cron"),
    ],
)
def test_hostile_cron_is_refused_at_once(expression: str, code: str) -> None:
    started = thread_time()
    with pytest.raises(ScheduleError) as caught:
        ScheduleRule.parse(kind="cron", zone="UTC", anchor=datetime(2026, 1, 1, tzinfo=UTC), cron=expression)
    assert thread_time() - started < 0.2
    assert (caught.value.code, caught.value.field) == (code, "cron")


@given(st.text(st.sampled_from("0123456789*,-/ ljanmofrisu#?@"), max_size=40))
def test_any_text_is_read_or_refused_and_what_is_read_fires(text: str) -> None:
    try:
        pattern = cron_parse(text)
    except ScheduleError:
        return
    assert pattern.at_or_after(datetime(2026, 1, 1)) < datetime(2035, 1, 1)  # noqa: DTZ001
