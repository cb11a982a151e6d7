"""Funds that run low: the exact first buy that is not covered, told once, and again only when it is news."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from apps.accounts.models import User
from apps.core import clock
from apps.mail.models import Message
from apps.notifications import funds
from apps.notifications.funds import funds_check
from apps.notifications.models import FundsCheck, FundsNotice
from apps.plans.models import Plan
from tests.notifications.world import available_set, market_make

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def in_the_morning(time_travel: Callable[..., int]) -> Callable[..., int]:
    now = clock.now()
    time_travel(to=now.replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=1))
    return time_travel


def person(number: int = 1) -> User:
    return User.objects.create(email=f"p{number}@example.com")


def plan(owner: User, units: int, *, in_days: float = 1.01, every_days: int = 1, **more: Any) -> Plan:
    at = clock.now() + timedelta(days=in_days)
    values: dict[str, Any] = {
        "owner": owner, "market": market_make(), "name": "p", "amount_units": units, "schedule_kind": "hourly",
        "interval": 24 * every_days, "zone": "UTC", "start_at": at, "run_after": at, "state": "active",
    }  # fmt: skip
    return Plan.objects.create(**{**values, **more})


def check_all() -> None:
    while funds_check():
        pass


def test_the_first_buy_that_is_not_covered_is_named() -> None:
    owner = person()
    available_set(owner, 250)
    plan(owner, 100)  # in 1, 2, 3 … days: the third is not covered
    plan(owner, 10, in_days=2.5, every_days=30)

    check_all()

    message = Message.objects.get()
    assert (message.to, message.template, message.essential) == ("p1@example.com", "funds_low", False)
    (asset,) = message.context["assets"]
    assert (asset["available"], asset["planned"]) == ("0.00025", "0.00061")
    assert asset["lasts"] == "about 3 days"
    assert FundsCheck.objects.get().done_at is not None


def test_who_has_enough_or_stops_in_time_is_not_told() -> None:
    rich, budgeted, ending, weekly = (person(n) for n in range(4))
    available_set(rich, 700)
    plan(rich, 100)
    available_set(budgeted, 150)
    plan(budgeted, 100, total_budget_units=250, committed_units=100)
    available_set(ending, 200)
    plan(ending, 100, end_at=clock.now() + timedelta(days=2, hours=1))
    available_set(weekly, 100)
    plan(weekly, 100, in_days=5, every_days=7)
    plan(person(9), 100, state="paused")

    check_all()

    assert Message.objects.count() == 0


def test_told_once_and_again_when_it_was_better_in_between(in_the_morning: Callable[..., int]) -> None:
    owner = person()
    plan(owner, 100)
    check_all()
    check_all()
    assert Message.objects.count() == 1

    in_the_morning(seconds=86_400)
    Plan.objects.update(run_after=clock.now() + timedelta(days=1), start_at=clock.now() + timedelta(days=1))
    check_all()
    assert Message.objects.count() == 1

    in_the_morning(seconds=86_400)
    Plan.objects.update(run_after=clock.now() + timedelta(days=30))
    check_all()
    assert FundsNotice.objects.count() == 0

    in_the_morning(seconds=86_400)
    Plan.objects.update(run_after=clock.now() + timedelta(days=1))
    check_all()
    assert Message.objects.count() == 2


def test_a_kill_between_two_steps_goes_on_and_nobody_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(funds, "PEOPLE_PER_STEP", 2)
    for number in range(5):
        plan(person(number), 100)

    assert funds_check() is True
    with transaction.atomic():
        funds_check()
        transaction.set_rollback(True)
    check_all()

    assert sorted(Message.objects.values_list("to", flat=True)) == [f"p{n}@example.com" for n in range(5)]


def test_many_people_cost_a_fixed_number_of_statements(
    django_assert_max_num_queries: Callable[[int], Any],
) -> None:
    for number in range(30):
        plan(person(number), 100)

    with django_assert_max_num_queries(20):
        funds_check()

    assert Message.objects.count() == 30


def test_before_the_hour_nothing_is_done(time_travel: Callable[..., int]) -> None:
    plan(person(), 100)
    time_travel(to=clock.now().replace(hour=3) + timedelta(days=1))

    assert funds_check() is False
    assert Message.objects.count() == 0
