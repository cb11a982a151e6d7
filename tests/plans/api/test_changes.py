"""`PATCH /plans/{id}`, pause, resume, cancel: what may happen, what is refused, and what is then as it was."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from apps.core import work
from apps.core.ids import uuid7
from apps.events.models import Event
from apps.fees.services import SCHEDULES
from apps.plans import kinds
from apps.plans.api.examples import PLAN_PATCH_BODY
from apps.plans.models import Plan, PlanState, Slot
from apps.providers.models import Market
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.plans.api.conftest import FRIDAY, USDC, Desk, everything, topics

ROUTES = [
    ("GET", "/api/v1/plans/{}", None),
    ("PATCH", "/api/v1/plans/{}", {"version": 1, "amount": "5"}),
    ("POST", "/api/v1/plans/{}/pause", None),
    ("POST", "/api/v1/plans/{}/resume", None),
    ("POST", "/api/v1/plans/{}/cancel", None),
    ("GET", "/api/v1/plans/{}/slots", None),
    ("GET", "/api/v1/plans/{}/preview", None),
    ("GET", "/api/v1/slots/{}", None),
]


@pytest.fixture
def plan(desk: Desk) -> Plan:
    """Daily at nine, up to 4,000, budget 1,000; two runs have passed, 200 are committed."""
    # From Friday's very second: by now the next one may have begun.
    plan = desk.plan(
        price_max_units=4_000 * USDC, total_budget_units=1_000 * USDC, schedule={"start_at": FRIDAY}
    )
    Plan.objects.update(next_number=3, committed_units=200 * USDC)
    plan.refresh_from_db()
    return plan


def url(plan: Plan, action: str = "") -> str:
    return f"/api/v1/plans/{plan.pk}{action}"


def patch(desk: Desk, plan: Plan, **changes: Any) -> Any:
    return desk.client.patch(url(plan), {"version": 1, **changes})


# --- who may


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_what_is_not_ones_own_is_not_there(desk: Desk, plan: Plan, method: str, path: str, body: Any) -> None:
    slot = _slot(plan)
    _, bob = user_with_key("bob@example.org")
    before = everything()
    theirs = slot.pk if "slots/{}" in path else plan.pk

    for unknown in (theirs, uuid7()):
        problem(bob.send(method, path.format(unknown), body=body), 404, "not_found")
    problem(bob.send(method, path.format("1"), body=body), 404, "not_found")

    assert everything() == before


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_without_a_key_or_its_scope_nothing_is_told(
    desk: Desk, plan: Plan, method: str, path: str, body: Any
) -> None:
    target = path.format(_slot(plan).pk if "slots/{}" in path else plan.pk)
    scope = "plans:write" if method == "GET" else "plans:read"
    _, other_scope = user_with_key("bob@example.org", scopes=[scope])
    before = everything()

    problem(ApiClient().send(method, target, body=body), 401, "not_authenticated")
    problem(other_scope.send(method, target, body=body), 403, "insufficient_scope")

    assert everything() == before


def test_methods_that_are_not_there_are_refused(desk: Desk, plan: Plan) -> None:
    for method, path in (
        ("DELETE", ""),
        ("PUT", ""),
        ("GET", "/pause"),
        ("POST", "/slots"),
        ("DELETE", "/slots"),
    ):
        problem(desk.client.send(method, url(plan, path)), 405, "method_not_allowed")


# --- changing


def test_the_example_of_the_document_is_what_happens(desk: Desk, plan: Plan) -> None:
    answer = desk.client.patch(url(plan), PLAN_PATCH_BODY)

    assert answer.status_code == 200, answer.content
    document = answer.json()
    assert (document["version"], document["amount"], document["price_max"]) == (2, "150", None)
    assert (document["schedule"]["at"], document["schedule"]["max_runs"]) == ("18:30", 30)
    assert document["schedule"]["description"] == "every day at 18:30 Europe/Berlin"
    # Today's half past six has passed; numbers go on.
    assert (document["next_run_at"], document["next_number"]) == ("2030-03-30T17:30:00Z", 3)
    event = Event.objects.order_by("-sequence").first()
    assert event is not None
    assert event.topic == "plan.updated"
    assert event.payload == {
        "plan_id": str(plan.pk),
        "plan_name": "Ether",
        "version": 2,
        "changed": ["amount_units", "price_max_units", "schedule"],
    }


def test_a_change_needs_the_version_that_was_read(desk: Desk, plan: Plan) -> None:
    assert patch(desk, plan, name="First").status_code == 200
    before = everything()

    refusal = problem(patch(desk, plan, name="Second"), 409, "version_conflict")
    problem(
        desk.client.patch(url(plan), {"name": "Third"}),
        400,
        "validation_failed",
        errors=[("/version", "required")],
    )

    assert refusal["detail"] == "The plan is at version 2, not 1."
    assert everything() == before


def test_saying_what_is_so_already_changes_nothing(desk: Desk, plan: Plan) -> None:
    before = everything()
    shown = desk.client.get(url(plan)).json()
    told = {name: value for name, value in shown["schedule"].items() if name != "description"}

    answer = patch(desk, plan, name=shown["name"], amount=shown["amount"], price_max="4000.0", schedule=told)

    assert answer.json() == shown
    assert everything() == before


def test_limits_are_taken_away_with_null(desk: Desk, plan: Plan) -> None:
    document = patch(desk, plan, price_max=None, total_budget=None).json()

    assert (document["price_max"], document["total_budget"]) == (None, None)
    assert document["committed"] == "200"


@pytest.mark.parametrize(
    ("schedule", "next_run_at", "description"),
    [
        ({"at": "21:30"}, "2030-03-29T20:30:00Z", "every day at 21:30 Europe/Berlin"),
        ({"time_zone": "UTC"}, "2030-03-30T09:00:00Z", "every day at 09:00 UTC"),
        ({"interval": 2}, "2030-03-31T07:00:00Z", "every 2 days at 09:00 Europe/Berlin"),
        ({"kind": "monthly", "day": 31, "at": "09:00"}, "2030-03-31T07:00:00Z",
         "every month on the 31st (or the month's last day) at 09:00 Europe/Berlin"),
        # Another kind forgets what it has no use for.
        ({"kind": "hourly"}, "2030-03-29T21:15:42Z", "every hour"),
        ({"kind": "cron", "cron": "0 12 * * 1"}, "2030-04-01T10:00:00Z", "at cron 0 12 * * 1 Europe/Berlin"),
        # An end says nothing about when.
        ({"end_at": "2030-06-01T00:00:00Z"}, "2030-03-30T08:00:00Z", "every day at 09:00 Europe/Berlin"),
    ],
)  # fmt: skip
def test_another_schedule_runs_from_its_next_occurrence_after_now(
    desk: Desk, plan: Plan, schedule: dict[str, Any], next_run_at: str, description: str
) -> None:
    answer = patch(desk, plan, schedule=schedule)

    assert answer.status_code == 200, answer.content
    document = answer.json()
    assert document["next_run_at"] == next_run_at
    assert (document["schedule"]["description"], document["next_number"]) == (description, 3)


def test_a_start_that_has_long_passed_stays_while_the_time_changes(desk: Desk, plan: Plan) -> None:
    desk.travel(seconds=40 * 86_400)

    answer = patch(desk, plan, schedule={"at": "10:00", "start_at": plan.start_at.isoformat()})

    assert answer.status_code == 200, answer.content
    assert answer.json()["next_run_at"] == "2030-05-09T08:00:00Z"


def test_a_run_that_is_just_due_survives_a_change_of_name_or_end(desk: Desk, plan: Plan) -> None:
    desk.travel(to=plan.run_after + timedelta(seconds=30))

    patch(desk, plan, name="Renamed", schedule={"end_at": "2031-01-01T00:00:00Z"})

    assert Plan.objects.get().run_after == plan.run_after


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("version as text", {"version": "1"}, "/version", "invalid"),
    ("version zero", {"version": 0}, "/version", "min_value"),
    ("version huge", {"version": 10**30}, "/version", "max_value"),
    ("market", {"market": "USDC/WETH"}, "/market", "unknown_field"),
    ("state", {"state": "completed"}, "/state", "unknown_field"),
    ("committed", {"committed": "0"}, "/committed", "unknown_field"),
    ("name null", {"name": None}, "/name", "null"),
    ("name of two lines", {"name": "a\nb"}, "/name", "invalid_character"),
    ("amount null", {"amount": None}, "/amount", "null"),
    ("amount a number", {"amount": 5}, "/amount", "not_a_string"),
    ("amount zero", {"amount": "0"}, "/amount", "zero"),
    ("amount negative", {"amount": "-5"}, "/amount", "negative"),
    ("amount huge", {"amount": "9" * 78}, "/amount", "too_large"),
    ("amount with too many decimals", {"amount": "1.0000001"}, "/amount", "too_many_decimals"),
    ("amount below the minimum", {"amount": "0.5"}, "/amount", "below_minimum"),
    ("amount below it after the fee", {"amount": "1.005"}, "/amount", "below_minimum"),
    ("amount above the budget", {"amount": "1000.01"}, "/amount", "budget_below_amount"),
    ("budget below the amount", {"total_budget": "99", "amount": "100"}, "/total_budget", "budget_below_committed"),
    ("budget below what is committed", {"total_budget": "199.99"}, "/total_budget", "budget_below_committed"),
    ("budget that leaves dust", {"total_budget": "200.5"}, "/total_budget", "budget_residue"),
    ("lower limit above the upper", {"price_min": "4000.01"}, "/price_min", "price_limits_crossed"),
    ("slippage above the guard", {"max_slippage_bps": 201}, "/max_slippage_bps", "slippage_above_guard"),
    ("slippage null", {"max_slippage_bps": None}, "/max_slippage_bps", "null"),
    ("schedule null", {"schedule": None}, "/schedule", "null"),
    ("schedule a text", {"schedule": "daily"}, "/schedule", "invalid"),
    ("zone unknown", {"schedule": {"time_zone": "Moon/Base"}}, "/schedule/time_zone", "unknown_timezone"),
    ("kind without its time", {"schedule": {"kind": "weekly"}}, "/schedule/at", "bad_time"),
    ("cron that never fires", {"schedule": {"kind": "cron", "cron": "0 0 30 2 *"}}, "/schedule/cron", "never_fires"),
    ("cron too often", {"schedule": {"kind": "cron", "cron": "* * * * *"}}, "/schedule/cron", "too_often"),
    ("start past", {"schedule": {"start_at": "2030-03-01T00:00:00Z"}}, "/schedule/start_at", "start_in_past"),
    ("end before start", {"schedule": {"end_at": "2030-03-01T00:00:00Z"}}, "/schedule/end_at", "end_before_start"),
    ("end before the next run", {"schedule": {"end_at": "2030-03-30T00:00:00Z"}}, "/schedule/end_at", "nothing_left"),
    ("runs that are over", {"schedule": {"max_runs": 2}}, "/schedule/max_runs", "nothing_left"),
    ("description", {"schedule": {"description": "x"}}, "/schedule/description", "unknown_field"),
]  # fmt: skip
RULES = {
    "below_minimum", "budget_below_amount", "budget_below_committed", "budget_residue", "price_limits_crossed",
    "slippage_above_guard", "bad_time", "never_fires", "too_often", "start_in_past", "end_before_start", "nothing_left",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "pointer", "code"), [pytest.param(*row, id=row[0]) for row in BAD]
)
def test_a_bad_change_is_pointed_at_and_changes_nothing(
    desk: Desk, plan: Plan, name: str, changes: dict[str, Any], pointer: str, code: str
) -> None:
    before = everything()

    answer = patch(desk, plan, **changes)

    problem_code = code if code in RULES or name == "name of two lines" else "validation_failed"
    problem(answer, 400, problem_code, errors=[(pointer, code)])
    assert everything() == before


def test_what_an_operator_changed_does_not_stand_in_the_way_of_something_else(desk: Desk, plan: Plan) -> None:
    Market.objects.update(enabled=False, min_trade_units=500 * USDC, guard_bps=10)

    assert patch(desk, plan, name="Still mine").status_code == 200
    problem(desk.client.patch(url(plan), {"version": 2, "amount": "200"}), 400, "below_minimum")


def test_a_budget_cut_to_what_is_spent_completes_the_plan(desk: Desk, plan: Plan) -> None:
    document = patch(desk, plan, total_budget="200").json()

    assert (document["state"], document["state_reason"], document["next_run_at"]) == (
        "completed",
        "budget_spent",
        None,
    )
    assert topics() == ["plan.created", "plan.updated", "plan.completed"]


def test_a_budget_cut_to_what_is_promised_waits_for_it(desk: Desk, plan: Plan) -> None:
    _slot(plan, state="open")

    document = patch(desk, plan, total_budget="200").json()

    assert (document["state"], document["progress"]["promised"]) == ("active", "100")


@pytest.mark.parametrize("state", [PlanState.COMPLETED, PlanState.CANCELLED])
def test_a_plan_that_has_ended_is_not_changed(desk: Desk, plan: Plan, state: PlanState) -> None:
    Plan.objects.update(state=state)
    before = everything()

    refusal = problem(patch(desk, plan, name="Late"), 409, "plan_ended")

    assert refusal["detail"] == f"The plan is {state}: nothing can be changed any more."
    assert everything() == before


# --- pause, resume, cancel

MOVES = {
    ("active", "pause"): ("paused", ["plan.paused"]),
    ("active", "resume"): ("active", []),
    ("active", "cancel"): ("cancelled", ["plan.cancelled"]),
    ("paused", "pause"): ("paused", []),
    ("paused", "resume"): ("active", ["plan.resumed"]),
    ("paused", "cancel"): ("cancelled", ["plan.cancelled"]),
    ("completed", "pause"): None,
    ("completed", "resume"): None,
    ("completed", "cancel"): None,
    ("cancelled", "pause"): None,
    ("cancelled", "resume"): None,
    ("cancelled", "cancel"): ("cancelled", []),
}
DONE = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}


@pytest.mark.parametrize(("state", "action"), list(MOVES))
def test_every_move_from_every_state(desk: Desk, plan: Plan, state: str, action: str) -> None:
    Plan.objects.update(state=state)
    before = everything()

    answer = desk.client.post(url(plan, f"/{action}"))

    wanted = MOVES[state, action]
    if wanted is None:
        refusal = problem(answer, 409, "illegal_transition")
        assert refusal["detail"] == f"The plan is {state}: it cannot be {DONE[action]} any more."
        assert everything() == before
        return
    target, published = wanted
    assert (answer.status_code, answer.json()["state"]) == (200, target)
    assert topics() == ["plan.created", *published]
    if not published:
        assert everything() == before
    else:
        assert answer.json()["version"] == 2


def test_a_repeated_key_answers_what_was_and_moves_nothing(desk: Desk, plan: Plan) -> None:
    first = desk.client.post(url(plan, "/pause"), idempotency_key="once")
    desk.client.post(url(plan, "/resume"))

    again = desk.client.post(url(plan, "/pause"), idempotency_key="once")

    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert Plan.objects.get().state == "active"
    problem(
        desk.client.post(url(plan, "/pause"), {"why": "x"}),
        400,
        "validation_failed",
        errors=[("/why", "unknown_field")],
    )


def test_what_passed_during_a_pause_was_neither_missed_nor_numbered(desk: Desk, plan: Plan) -> None:
    desk.client.post(url(plan, "/pause"))
    Plan.objects.update(misses_in_a_row=2)
    desk.travel(seconds=5 * 86_400)

    document = desk.client.post(url(plan, "/resume")).json()

    assert (document["next_run_at"], document["next_number"]) == ("2030-04-04T07:00:00Z", 3)
    assert (document["misses_in_a_row"], document["state_reason"]) == (0, "")
    work.drain(kinds.OPEN)
    assert not Slot.objects.exists()


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"end_at": "2030-04-02T00:00:00Z"}, "schedule_ended"),
        ({"next_number": 6, "max_runs": 5}, "schedule_ended"),
        ({"committed_units": 1_000 * USDC}, "budget_spent"),
    ],
)
def test_resuming_completes_a_plan_of_which_nothing_is_left(
    desk: Desk, plan: Plan, ended: dict[str, Any], reason: str
) -> None:
    Plan.objects.update(state=PlanState.PAUSED, **ended)
    desk.travel(seconds=5 * 86_400)

    document = desk.client.post(url(plan, "/resume")).json()

    assert (document["state"], document["state_reason"], document["next_run_at"]) == (
        "completed",
        reason,
        None,
    )
    assert topics()[-1] == "plan.completed"


def test_changes_take_a_fixed_number_of_queries(
    desk: Desk, plan: Plan, django_assert_num_queries: Callable[..., Any]
) -> None:
    desk.client.get(url(plan))
    SCHEDULES.forget()

    # Key; plan for its asset; savepoint; lock; plan; fee; update; 2 for the event; release; progress.
    with django_assert_num_queries(11):
        assert patch(desk, plan, amount="120").status_code == 200
    # Key; 2 savepoints; lock; plan; update; 2 for the event; 2 releases; progress.
    for action in ("pause", "resume", "cancel"):
        with django_assert_num_queries(11):
            assert desk.client.post(url(plan, f"/{action}")).status_code == 200


def _slot(plan: Plan, *, state: str = "open", number: int = 1) -> Slot:
    return Slot.objects.create(
        plan=plan,
        number=number,
        owner_id=plan.owner_id,
        market_id=plan.market_id,
        scheduled_at=plan.run_after,
        state=state,
        amount_units=plan.amount_units,
        max_slippage_bps=plan.max_slippage_bps,
    )
