"""What a plan does about occurrences that are due, on time or late: a pure decision.

Source: design.md, "Schedules". Every due occurrence is either opened or recorded as skipped, exactly once,
because the plan's next number and instant move past all of them in the same transaction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Final, NamedTuple

from apps.plans.schedule import ScheduleError, ScheduleRule, Tail
from apps.plans.zones import OutOfRange

# Below this lateness an occurrence is not "missed": ticks, deploys and restarts take minutes, not hours.
ON_TIME: Final = timedelta(minutes=5)


class MissedPolicy(StrEnum):
    RUN_ONCE = "run_once"
    SKIP = "skip"
    RUN_ALL = "run_all"


class Run(NamedTuple):
    """An occurrence of a plan; numbers are consecutive per plan, skipped ones included."""

    number: int
    scheduled_at: datetime


@dataclass(frozen=True, slots=True)
class Skipped:
    """Occurrences passed over, from `first` to `last` inclusive. Compact, since there may be thousands."""

    first: Run
    last: Run

    @property
    def count(self) -> int:
        return self.last.number - self.first.number + 1

    def runs(self, rule: ScheduleRule) -> Iterator[Run]:
        """Each one of them, ascending."""
        instants = chain((self.first.scheduled_at,), rule.after(self.first.scheduled_at))
        numbers = range(self.first.number, self.last.number + 1)
        return (Run(number, instant) for number, instant in zip(numbers, instants, strict=False))


@dataclass(frozen=True, slots=True)
class Due:
    """What to open and what to skip now, and where the plan stands afterwards.

    Skipped occurrences all come before the opened ones. `next_run_at` is None when the schedule has ended.
    """

    runs: tuple[Run, ...]
    skipped: Skipped | None
    next_number: int
    next_run_at: datetime | None


def due(
    rule: ScheduleRule,
    *,
    next_number: int,
    next_run_at: datetime,
    now: datetime,
    policy: MissedPolicy = MissedPolicy.RUN_ONCE,
    grace: timedelta,
    limit: int = 1,
    end_at: datetime | None = None,
    max_runs: int | None = None,
    on_time: timedelta = ON_TIME,
) -> Due:
    """Decides over every occurrence from (`next_number`, `next_run_at`) up to `now`.

    - run_once: opens the latest one if it is at most `grace` late (never less than `on_time`).
    - skip: opens the latest one if it is at most `on_time` late.
    - run_all: opens the latest `limit` of them, however late.

    The rest are skipped. Nothing is scheduled after `end_at` (an occurrence at that very instant still is) or
    with a number above `max_runs`; one that was due before the end may still be opened late. `now` before
    `next_run_at` (a clock stepped back) opens and moves nothing. Constant time but for `limit`; cron counts
    through what was missed. Raises ScheduleError `bad_limit` for a limit below 1, and for a rule that cannot be
    computed: that is no end of it.
    """
    if limit < 1:
        raise ScheduleError("bad_limit", "limit", "At least 1.")
    next_run_at, now = next_run_at.astimezone(UTC), now.astimezone(UTC)
    if (max_runs is not None and next_number > max_runs) or (end_at is not None and next_run_at > end_at):
        return Due((), None, next_number, None)
    if now < next_run_at:
        return Due((), None, next_number, next_run_at)

    until = now if end_at is None else min(now, end_at)
    wanted = limit if policy is MissedPolicy.RUN_ALL else 1
    following = _instant_after(rule, next_run_at)
    if following is None or following > until:
        more = Tail(0, ())  # as nearly always: nothing was missed
    else:
        at_most = None if max_runs is None else max_runs - next_number
        more = rule.tail(next_run_at, until, at_most=at_most, keep=wanted + 1)
    total = more.total + 1
    instants = (next_run_at, *more.last) if more.total <= wanted else more.last
    last = Run(next_number + total - 1, instants[-1])

    if policy is not MissedPolicy.RUN_ALL:
        patience = max(grace, on_time) if policy is MissedPolicy.RUN_ONCE else on_time
        wanted = 1 if now - last.scheduled_at <= patience else 0
    opened = min(wanted, total)
    numbers = range(last.number - opened + 1, last.number + 1)
    runs = tuple(map(Run, numbers, instants[len(instants) - opened :]))
    skipped = None
    if opened < total:
        last_skipped = Run(last.number - opened, instants[len(instants) - opened - 1])
        skipped = Skipped(Run(next_number, next_run_at), last_skipped)
    if more.total:
        following = _instant_after(rule, last.scheduled_at)
    if following is not None and end_at is not None and following > end_at:
        following = None
    if max_runs is not None and last.number >= max_runs:
        following = None
    return Due(runs, skipped, last.number + 1, following)


def _instant_after(rule: ScheduleRule, instant: datetime) -> datetime | None:
    try:
        return rule.instant_after(instant)
    except OutOfRange:
        return None
