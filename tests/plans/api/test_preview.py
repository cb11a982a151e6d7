"""Previews and the list of plans: what is said beforehand is what the opening step does."""

from datetime import timedelta
from typing import Any

import pytest

from apps.core import clock, work
from apps.core.ids import uuid7
from apps.plans import kinds, services
from apps.plans.api.examples import PLAN_WRITE_BODY, PREVIEW_BODY
from apps.plans.models import Plan, Slot
from apps.plans.preview import LOOK_AHEAD_RUNS, plan_preview
from tests.core.api.support import problem
from tests.plans.api.conftest import USDC, Desk, everything


def preview(desk: Desk, *, count: int | None = None, **changes: Any) -> Any:
    path = "/api/v1/plans/preview" + (f"?count={count}" if count else "")
    return desk.client.post(path, desk.body(**changes)).json()


def codes(document: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in document["warnings"]]


def test_the_example_of_the_document_is_what_happens(desk: Desk) -> None:
    desk.fund(usdc=250)
    before = everything()

    answer = desk.client.post("/api/v1/plans/preview?count=2", PLAN_WRITE_BODY)

    assert (answer.status_code, answer.json()) == (200, PREVIEW_BODY)
    assert everything() == before


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({}, 4),
        ({"total_budget_units": 350 * USDC}, 5),
        ({"total_budget_units": 300_500_000}, 5),
        ({"total_budget_units": 301 * USDC}, 5),
        ({"schedule": {"max_runs": 3}}, 5),
        ({"schedule": {"kind": "monthly", "day": 31}}, 5),
        ({"schedule": {"kind": "weekly", "weekdays": [1, 7], "at": "02:30"}}, 6),
        ({"schedule": {"kind": "cron", "at": None, "cron": "30 2,14 * * *"}}, 6),
        ({"schedule": {"kind": "hourly", "at": None, "interval": 7}}, 5),
    ],
)
def test_what_the_preview_says_is_what_the_opening_step_does(
    desk: Desk, values: dict[str, Any], steps: int
) -> None:
    """The clock goes from run to run; every slot has the number, instant and amount that were foretold."""
    if "schedule" in values and "max_runs" not in values["schedule"]:
        values = {**values, "schedule": {**values["schedule"], "end_at": clock.now() + timedelta(days=200)}}
    plan = desk.plan(**values)
    foretold = plan_preview(plan=plan, tier="standard", count=steps)

    for run in foretold.runs:
        desk.travel(to=run.scheduled_at)
        assert work.drain(kinds.OPEN) == 1

    opened = Slot.objects.exclude(reason="budget_exhausted").order_by("number")
    assert list(opened.values_list("number", "scheduled_at", "amount_units")) == [
        (run.number, run.scheduled_at, run.amount_units) for run in foretold.runs
    ]
    plan.refresh_from_db()
    after = plan_preview(plan=plan, tier="standard", count=steps)
    if len(foretold.runs) < steps:
        assert (after.runs, [notice.code for notice in after.warnings]) == ([], ["no_runs"])
        assert foretold.ends_at == foretold.runs[-1].scheduled_at
    else:
        assert after.runs[0].number == steps + 1


@pytest.mark.parametrize(
    ("budget", "amounts"),
    [
        # The last run takes what is left, and what would be too little for one more.
        ("350", ["100", "100", "100", "50"]),
        ("300.5", ["100", "100", "100.5"]),
        ("301", ["100", "100", "100", "1"]),
        ("100", ["100"]),
    ],
)
def test_the_budget_ends_the_runs(desk: Desk, budget: str, amounts: list[str]) -> None:
    document = preview(desk, total_budget=budget)

    assert [run["amount"] for run in document["runs"]] == amounts
    last = document["runs"][-1]["scheduled_at"]
    assert (document["budget_exhausted_at"], document["ends_at"]) == (last, last)


@pytest.mark.parametrize(
    ("usdc", "funded", "until", "outlasts"),
    [
        (0, 0, None, False),
        (99, 0, None, False),
        (250, 2, "2030-03-31T07:00:00Z", False),
        (100 * LOOK_AHEAD_RUNS - 1, LOOK_AHEAD_RUNS - 1, "2032-12-22T08:00:00Z", False),
        (100 * LOOK_AHEAD_RUNS, LOOK_AHEAD_RUNS, "2032-12-23T08:00:00Z", True),
    ],
)
def test_the_runway_is_what_available_funds_pay(
    desk: Desk, usdc: int, funded: int, until: str | None, outlasts: bool
) -> None:
    if usdc:
        desk.fund(usdc=usdc)

    runway = preview(desk)["runway"]

    assert (runway["available"], runway["funded_runs"]) == (str(usdc), funded)
    assert (runway["funds_last_until"], runway["outlasts"]) == (until, outlasts)
    assert "other plans" in runway["counted"]


def test_funds_that_pay_all_runs_to_the_end_warn_of_nothing(desk: Desk) -> None:
    desk.fund(usdc=200)

    document = preview(desk, schedule={"max_runs": 2, "time_zone": "UTC"})

    assert (document["runway"]["funded_runs"], document["runway"]["outlasts"]) == (2, False)
    assert document["ends_at"] == "2030-03-31T09:00:00Z"
    assert codes(document) == []


def test_warnings_tell_what_clocks_and_months_do(desk: Desk) -> None:
    desk.fund(usdc=10**6)

    gap = preview(desk, count=3, schedule={"at": "02:30"})
    months = preview(desk, count=13, schedule={"kind": "monthly", "day": 31})
    hourly = preview(desk, count=60, schedule={"kind": "hourly", "at": ...})

    assert codes(gap) == ["dst_gap", "dst_shift"]
    assert gap["warnings"][0]["text"] == "On 2030-03-31 clocks skip 02:30; the run is at 03:30."
    assert [run["local_at"][11:16] for run in gap["runs"]] == ["02:30", "03:30", "02:30"]
    assert codes(months) == ["dst_shift", "month_end"]
    assert "2030-04-30, 2030-06-30, 2030-09-30, 2030-11-30, 2031-02-28." in months["warnings"][1]["text"]
    assert codes(hourly) == ["dst_shift"]
    assert "elapsed time" in hourly["warnings"][0]["text"]


def test_a_paused_plan_is_shown_as_if_resumed_now_and_an_ended_one_has_no_runs(desk: Desk) -> None:
    plan = desk.plan()
    path = f"/api/v1/plans/{plan.pk}/preview"
    services.plan_pause(owner_id=desk.user.pk, plan_id=plan.pk)
    desk.travel(seconds=3 * 86_400)

    paused = desk.client.get(path, {"count": "1"}).json()
    services.plan_cancel(owner_id=desk.user.pk, plan_id=plan.pk)
    ended = desk.client.get(path).json()

    assert [run["scheduled_at"] for run in paused["runs"]] == ["2030-04-02T07:00:00Z"]
    assert codes(paused) == ["paused", "insufficient_funds"]
    assert (ended["runs"], codes(ended), ended["ends_at"]) == ([], ["no_runs"], None)


@pytest.mark.parametrize("count", ["0", "101", "-1", "ten", "1.5", ""])
def test_a_count_out_of_range_is_refused(desk: Desk, count: str) -> None:
    plan = desk.plan()
    before = everything()

    for answer in (
        desk.client.get(f"/api/v1/plans/{plan.pk}/preview", {"count": count}),
        desk.client.post(f"/api/v1/plans/preview?count={count}", desk.body()),
    ):
        document = problem(answer, 400, "validation_failed")
        assert [error["parameter"] for error in document["errors"]] == ["count"]
    assert everything() == before


def test_plans_are_listed_newest_first_and_filtered(desk: Desk) -> None:
    plans = [desk.plan(name=f"Plan {number}") for number in range(3)]
    services.plan_pause(owner_id=desk.user.pk, plan_id=plans[0].pk)

    def names(**query: str) -> list[str]:
        return [plan["name"] for plan in desk.client.get("/api/v1/plans", query).json()["data"]]

    assert names() == ["Plan 2", "Plan 1", "Plan 0"]
    assert (names(state="paused"), names(state="active")) == (["Plan 0"], ["Plan 2", "Plan 1"])
    assert (len(names(market_id=str(desk.market.pk))), names(market_id=str(uuid7()))) == (3, [])
    first = desk.client.get("/api/v1/plans", {"limit": "2"}).json()
    rest = desk.client.get("/api/v1/plans", {"limit": "2", "cursor": first["next_cursor"]}).json()
    assert [plan["name"] for plan in first["data"] + rest["data"]] == names()
    assert rest["next_cursor"] is None
    for name, value, code in (
        ("state", "open", "invalid_choice"),
        ("market_id", "x", "invalid"),
        ("q", "x", "unknown_field"),
    ):
        problem(
            desk.client.get("/api/v1/plans", {name: value}), 400, "validation_failed", errors=[(name, code)]
        )
    problem(desk.client.get("/api/v1/plans", {"cursor": "x"}), 400, "invalid_cursor")
    assert Plan.objects.count() == 3
