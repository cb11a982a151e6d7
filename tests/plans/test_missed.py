from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.plans.missed import ON_TIME, Due, MissedPolicy, Run, Skipped, due
from apps.plans.schedule import ScheduleError, ScheduleRule

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START = datetime(2026, 3, 25, 8, tzinfo=UTC)
DAILY = ScheduleRule.parse(kind="daily", zone="Europe/Berlin", anchor=START, at="09:00")
RULES = [
    DAILY,
    ScheduleRule.parse(kind="hourly", zone="UTC", anchor=START, interval=7),
    ScheduleRule.parse(kind="weekly", zone="America/New_York", anchor=START, at="02:30", weekdays=[1, 7]),
    ScheduleRule.parse(kind="monthly", zone="Asia/Kathmandu", anchor=START, at="00:00", day=31),
    ScheduleRule.parse(kind="cron", zone="Europe/Berlin", anchor=START, cron="30 2,14 * * *"),
    ScheduleRule.parse(
        kind="daily", zone="Pacific/Apia", anchor=datetime(2011, 12, 25, tzinfo=UTC), at="09:00"
    ),
]


def decide(now: datetime, policy: str = "run_once", **rest: Any) -> Due:
    """The daily plan of 25 March, whose first run stands at 09:00 in Berlin."""
    values = {"next_number": 1, "next_run_at": START, "grace": 2 * HOUR, "limit": 3, **rest}
    return due(DAILY, now=now, policy=MissedPolicy(policy), **values)


@pytest.mark.parametrize("kind", ["daily", "monthly", "cron"])
def test_a_rule_that_cannot_be_computed_is_not_taken_for_one_that_has_ended(kind: str) -> None:
    good = next(rule for rule in RULES if rule.kind == kind)
    with pytest.raises(ScheduleError, match="Not an IANA time zone"):
        due(replace(good, zone="Mars/Olympus"), next_number=1, next_run_at=START, now=START, grace=HOUR)
    # As it does where the calendar ends.
    last = datetime(9991, 1, 2, tzinfo=UTC)
    assert due(good, next_number=9, next_run_at=last, now=last, grace=HOUR).next_run_at is None


def day(number: int) -> Run:
    return Run(number, DAILY.occurrence(number))


@pytest.mark.parametrize("policy", list(MissedPolicy))
def test_an_occurrence_on_time_is_opened_whatever_the_policy(policy: str) -> None:
    for now in (START, START + timedelta(seconds=3), START + ON_TIME):
        assert decide(now, policy) == Due((day(1),), None, 2, START + DAY)


@pytest.mark.parametrize("policy", list(MissedPolicy))
def test_a_clock_stepping_back_reopens_nothing(policy: str) -> None:
    after = decide(START, policy)
    assert after.next_run_at is not None
    again = decide(START - 3 * DAY, policy, next_number=after.next_number, next_run_at=after.next_run_at)
    assert again == Due((), None, 2, START + DAY)
    assert decide(START - timedelta(microseconds=1), policy) == Due((), None, 1, START)


def test_run_once_opens_the_latest_within_grace_and_skips_the_rest() -> None:
    # Four missed over the change to summer time; the fifth, on the 29th, is an hour late.
    now = datetime(2026, 3, 29, 8, tzinfo=UTC)
    assert decide(now) == Due((day(5),), Skipped(day(1), day(4)), 6, day(6).scheduled_at)
    assert decide(now + HOUR).runs == (day(5),)
    late = decide(now + HOUR + timedelta(microseconds=1))
    assert late == Due((), Skipped(day(1), day(5)), 6, day(6).scheduled_at)
    assert late.skipped is not None
    assert late.skipped.count == 5


def test_run_once_without_grace_still_runs_what_is_on_time() -> None:
    assert decide(START + ON_TIME, grace=timedelta(0)).runs == (day(1),)
    assert decide(START + ON_TIME + timedelta(seconds=1), grace=timedelta(0)).runs == ()


def test_skip_skips_all_that_is_late() -> None:
    assert decide(START + HOUR, "skip") == Due((), Skipped(day(1), day(1)), 2, START + DAY)
    assert decide(START + DAY, "skip") == Due((day(2),), Skipped(day(1), day(1)), 3, START + 2 * DAY)


def test_run_all_opens_the_latest_few_however_late() -> None:
    now = START + 20 * HOUR + 9 * DAY
    found = decide(now, "run_all")
    assert found == Due((day(8), day(9), day(10)), Skipped(day(1), day(7)), 11, day(11).scheduled_at)
    assert decide(now, "run_all", limit=10) == Due(
        tuple(map(day, range(1, 11))), None, 11, day(11).scheduled_at
    )
    assert decide(now, "run_all", limit=9).skipped == Skipped(day(1), day(1))
    assert decide(now, "run_all", limit=100).runs == tuple(map(day, range(1, 11)))
    with pytest.raises(ScheduleError):
        decide(now, "run_all", limit=0)


def test_nothing_is_scheduled_after_the_end_but_what_was_due_may_be_late() -> None:
    end = day(2).scheduled_at
    assert decide(START, end_at=end).next_run_at == end
    assert decide(START, end_at=end - timedelta(microseconds=1)).next_run_at is None
    assert decide(end, end_at=end) == Due((day(2),), Skipped(day(1), day(1)), 3, None)
    assert decide(end + HOUR, end_at=end).runs == (day(2),)
    assert decide(end + 9 * DAY, "run_all", end_at=end).runs == (day(1), day(2))
    assert decide(START - DAY, end_at=START - HOUR) == Due((), None, 1, None)


def test_numbers_stop_at_max_runs() -> None:
    assert decide(START, max_runs=2).next_run_at == day(2).scheduled_at
    assert decide(START, max_runs=1) == Due((day(1),), None, 2, None)
    assert decide(START, max_runs=0) == Due((), None, 1, None)
    # The last of three runs is long past when the plan is looked at: it is skipped, not replaced by a later one.
    assert decide(START + 9 * DAY, max_runs=3) == Due((), Skipped(day(1), day(3)), 4, None)
    assert decide(START + 9 * DAY, "run_all", max_runs=3).runs == (day(1), day(2), day(3))


def test_thousands_of_skipped_runs_are_one_small_value_and_can_be_listed() -> None:
    rule = ScheduleRule.parse(kind="hourly", zone="UTC", anchor=START)
    started = thread_time()
    found = due(rule, next_number=1, next_run_at=START, now=START + 100_000 * HOUR, grace=HOUR)
    assert thread_time() - started < 0.01  # processor time: what else the machine does is not counted
    assert found.skipped is not None
    assert found.skipped.count == 100_000
    assert found.runs == (Run(100_001, START + 100_000 * HOUR),)
    listed = list(found.skipped.runs(rule))
    assert listed[:2] == [Run(1, START), Run(2, START + HOUR)]
    assert listed[-1] == found.skipped.last
    assert len(listed) == 100_000


def test_numbers_stay_consecutive_when_the_stored_instant_is_off_the_grid() -> None:
    # A zone changed its law between two releases of tzdata: the stored run is an hour beside the rule's.
    found = decide(START + 2 * DAY + HOUR, next_number=7, next_run_at=START + HOUR, policy="run_all")
    assert [run.number for run in found.runs] == [7, 8, 9]
    assert [run.scheduled_at for run in found.runs] == [START + HOUR, START + DAY, START + 2 * DAY]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(RULES),
    st.sampled_from(list(MissedPolicy)),
    st.lists(st.one_of(st.integers(-5, 5), st.integers(-2000, 20_000)), min_size=1, max_size=25),
    st.integers(1, 6),
    st.integers(0, 3000),
    st.none() | st.integers(1, 40),
    st.none() | st.integers(0, 200_000),
)
def test_over_any_life_each_occurrence_is_opened_or_skipped_once(
    rule: ScheduleRule,
    policy: MissedPolicy,
    steps: list[int],
    limit: int,
    grace: int,
    max_runs: int | None,
    ends: int | None,
) -> None:
    """The clock moves by minutes, back too; the model looks at each due occurrence one by one."""
    grace_for = timedelta(minutes=grace)
    end_at = None if ends is None else rule.occurrence(1) + timedelta(minutes=ends)
    number, run_at = 1, rule.occurrence(1)
    now, latest = run_at, run_at - 400 * DAY
    outcomes: list[tuple[int, datetime]] = []
    ended = False
    for step in steps:
        now += timedelta(minutes=step)
        latest = max(latest, now)
        found = due(
            rule, next_number=number, next_run_at=run_at, now=now, policy=policy, grace=grace_for, limit=limit,
            end_at=end_at, max_runs=max_runs,
        )  # fmt: skip
        skipped = list(found.skipped.runs(rule)) if found.skipped else []
        assert len(skipped) == (found.skipped.count if found.skipped else 0)
        these = [*skipped, *found.runs]
        check_choice(these, list(found.runs), now, policy, grace_for, limit)
        outcomes += these
        number = found.next_number
        if found.next_run_at is None:
            ended = True
            break
        run_at = found.next_run_at
        assert run_at > now or not these

    expected: list[tuple[int, datetime]] = []
    for instant in rule.after(rule.anchor - timedelta(microseconds=1)):
        over = (end_at is not None and instant > end_at) or len(expected) == max_runs
        if instant > latest or over:
            break
        expected.append((len(expected) + 1, instant))
    assert outcomes == expected
    assert number == len(expected) + 1
    if ended:
        following = rule.occurrence(len(expected) + 1)
        assert len(expected) == max_runs or (end_at is not None and following > end_at)


def check_choice(
    due_now: list[Run], opened: list[Run], now: datetime, policy: MissedPolicy, grace: timedelta, limit: int
) -> None:
    if policy is MissedPolicy.RUN_ALL:
        assert opened == due_now[-limit:]
        return
    patience = ON_TIME if policy is MissedPolicy.SKIP else max(ON_TIME, grace)
    assert opened == [run for run in due_now[-1:] if now - run.scheduled_at <= patience]
