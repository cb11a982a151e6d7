"""`POST /plans`: what a created plan says, and everything that is refused, with nothing changed."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.db import connection

from apps.accounts.closing import account_close
from apps.core import clock
from apps.core.errors import Conflict, NotFound
from apps.core.ids import uuid7
from apps.core.models import IdempotencyKey
from apps.events.models import Event
from apps.fees.services import SCHEDULES
from apps.plans import services
from apps.plans.api.examples import PLAN_BODY, PLAN_WRITE_BODY
from apps.plans.models import Plan
from apps.providers.api.fields import MARKETS
from apps.providers.models import Market
from tests.accounts.me.test_closing_races import meanwhile
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.plans.api.conftest import USDC, Desk, everything, topics


def test_the_example_of_the_document_is_what_happens(desk: Desk) -> None:
    answer = desk.client.post("/api/v1/plans", PLAN_WRITE_BODY, idempotency_key="example")

    assert answer.status_code == 201, answer.content
    document = answer.json()
    plan = Plan.objects.get()
    assert answer["Location"] == f"/api/v1/plans/{plan.pk}"
    its_own = {
        "id": str(plan.pk),
        "created_at": document["created_at"],
        "market": {**PLAN_BODY["market"], "id": str(desk.market.pk)},
    }
    assert document == {**PLAN_BODY, **its_own}
    assert desk.client.get(answer["Location"]).json() == document
    assert (plan.owner_id, plan.amount_units, plan.total_budget_units) == (
        desk.user.pk,
        100 * USDC,
        5_000 * USDC,
    )
    event = Event.objects.get()
    assert (event.topic, event.subject_id, event.object_id) == ("plan.created", desk.user.pk, plan.pk)
    assert event.payload == {"plan_id": str(plan.pk), "plan_name": plan.name, "version": 1}


def test_what_is_left_out_has_its_default(desk: Desk) -> None:
    before = clock.now().replace(microsecond=0)
    document = desk.post(schedule={"start_at": ...}).json()

    # The market's guard is the slippage; the start is now, so that tomorrow's nine o'clock is the first.
    assert (document["max_slippage_bps"], document["missed_policy"]) == (200, "run_once")
    assert before <= datetime.fromisoformat(document["schedule"]["start_at"]) <= clock.now()
    assert document["next_run_at"] == "2030-03-30T08:00:00Z"


@pytest.mark.parametrize(
    ("schedule", "next_run_at"),
    [
        # Today's nine o'clock has passed: a new plan missed nothing.
        ({"start_at": "2030-03-29T00:00:00+01:00"}, "2030-03-30T08:00:00Z"),
        ({"start_at": "2030-03-29T00:00:00+01:00", "at": "23:30"}, "2030-03-29T22:30:00Z"),
        ({"start_at": "2030-03-30T21:00:00Z"}, "2030-03-31T07:00:00Z"),
        ({"start_at": "2031-01-01T00:00:00Z", "at": "00:30"}, "2031-01-01T23:30:00Z"),
        ({"kind": "weekly", "weekdays": [7, 1], "at": "02:30"}, "2030-03-31T01:30:00Z"),
        ({"kind": "monthly", "day": 31}, "2030-03-31T07:00:00Z"),
        ({"kind": "hourly", "at": ..., "interval": 6}, "2030-03-29T23:00:00Z"),
        ({"kind": "cron", "at": ..., "cron": "*/15 22 * * mon-fri"}, "2030-04-01T20:00:00Z"),
        # A start that is just now is due at once, a few minutes later too.
        ({"kind": "hourly", "at": ..., "start_at": "2030-03-29T20:15:00Z"}, "2030-03-29T20:15:00Z"),
        ({"kind": "hourly", "at": ..., "start_at": "2030-03-29T20:10:00Z"}, "2030-03-29T21:10:00Z"),
    ],
)
def test_the_first_run_is_the_first_occurrence_that_has_not_passed(
    desk: Desk, schedule: dict[str, Any], next_run_at: str
) -> None:
    answer = desk.post(schedule=schedule)

    assert answer.status_code == 201, answer.content
    assert answer.json()["next_run_at"] == next_run_at


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("name of spaces", {"name": "   "}, "/name", "blank"),
    ("name empty", {"name": ""}, "/name", "blank"),
    ("name missing", {"name": ...}, "/name", "required"),
    ("name null", {"name": None}, "/name", "null"),
    ("name a number", {"name": 5}, "/name", "invalid"),
    ("name long", {"name": "x" * 81}, "/name", "max_length"),
    ("name with NUL", {"name": "a\x00b"}, "/name", "invalid_character"),
    ("name of two lines", {"name": "a\nb"}, "/name", "invalid_character"),
    ("name that turns its text", {"name": "a\u202eb"}, "/name", "invalid_character"),
    ("market missing", {"market": ...}, "/market", "required"),
    ("market null", {"market": None}, "/market", "null"),
    ("market a list", {"market": ["USDC/WETH"]}, "/market", "invalid"),
    ("market unknown pair", {"market": "WETH/USDC"}, "/market", "unknown_market"),
    ("market unknown assets", {"market": "DOGE/SHIB"}, "/market", "unknown_market"),
    ("market unknown id", {"market": str(uuid7())}, "/market", "unknown_market"),
    ("amount missing", {"amount": ...}, "/amount", "required"),
    ("amount null", {"amount": None}, "/amount", "null"),
    ("amount a number", {"amount": 100}, "/amount", "not_a_string"),
    ("amount a float", {"amount": 1.5}, "/amount", "not_a_string"),
    ("amount an object", {"amount": {"units": "1"}}, "/amount", "not_a_string"),
    ("amount zero", {"amount": "0"}, "/amount", "zero"),
    ("amount negative", {"amount": "-1"}, "/amount", "negative"),
    ("amount exponent", {"amount": "1e3"}, "/amount", "invalid_amount"),
    ("amount not ASCII", {"amount": "１"}, "/amount", "invalid_amount"),
    ("amount infinite", {"amount": "Infinity"}, "/amount", "invalid_amount"),
    ("amount with too many decimals", {"amount": "1.0000001"}, "/amount", "too_many_decimals"),
    ("amount beyond 2^256", {"amount": "9" * 78}, "/amount", "too_large"),
    ("amount beyond any asset", {"amount": "1" + "0" * 55}, "/amount", "too_large"),
    ("amount below the minimum", {"amount": "0.999999"}, "/amount", "below_minimum"),
    ("amount below it after the fee", {"amount": "1.009999"}, "/amount", "below_minimum"),
    ("budget a number", {"total_budget": 5}, "/total_budget", "not_a_string"),
    ("budget zero", {"total_budget": "0"}, "/total_budget", "zero"),
    ("budget below the amount", {"total_budget": "99.999999"}, "/total_budget", "budget_below_amount"),
    ("budget beyond any asset", {"total_budget": "1" + "0" * 55}, "/total_budget", "too_large"),
    ("limits crossed", {"price_min": "3000", "price_max": "2000"}, "/price_min", "price_limits_crossed"),
    ("limit in the other asset's decimals", {"price_max": "1.0000001"}, "/price_max", "too_many_decimals"),
    ("limit zero", {"price_min": "0"}, "/price_min", "zero"),
    ("limit negative", {"price_min": "-5"}, "/price_min", "negative"),
    ("slippage above the guard", {"max_slippage_bps": 201}, "/max_slippage_bps", "slippage_above_guard"),
    ("slippage beyond all", {"max_slippage_bps": 10_001}, "/max_slippage_bps", "max_value"),
    ("slippage negative", {"max_slippage_bps": -1}, "/max_slippage_bps", "min_value"),
    ("slippage as text", {"max_slippage_bps": "50"}, "/max_slippage_bps", "invalid"),
    ("slippage true", {"max_slippage_bps": True}, "/max_slippage_bps", "invalid"),
    ("policy unknown", {"missed_policy": "all"}, "/missed_policy", "invalid_choice"),
    ("policy a list", {"missed_policy": ["skip"]}, "/missed_policy", "invalid_choice"),
    ("grace negative", {"grace_seconds": -1}, "/grace_seconds", "min_value"),
    ("grace huge", {"grace_seconds": 10**30}, "/grace_seconds", "max_value"),
    ("limit of runs zero", {"run_all_limit": 0}, "/run_all_limit", "min_value"),
    ("unknown field", {"colour": "red"}, "/colour", "unknown_field"),
    ("owner", {"owner_id": str(uuid7())}, "/owner_id", "unknown_field"),
    ("state", {"state": "completed"}, "/state", "unknown_field"),
    ("schedule missing", {"schedule": ...}, "/schedule", "required"),
    ("kind missing", {"schedule": {"kind": ...}}, "/schedule/kind", "required"),
    ("kind unknown", {"schedule": {"kind": "yearly"}}, "/schedule/kind", "invalid_choice"),
    ("kind a list", {"schedule": {"kind": ["daily"]}}, "/schedule/kind", "invalid_choice"),
    ("zone missing", {"schedule": {"time_zone": ...}}, "/schedule/time_zone", "required"),
    ("zone unknown", {"schedule": {"time_zone": "Europe/Atlantis"}}, "/schedule/time_zone", "unknown_timezone"),
    ("zone a path", {"schedule": {"time_zone": "../etc/passwd"}}, "/schedule/time_zone", "unknown_timezone"),
    ("zone a number", {"schedule": {"time_zone": 2}}, "/schedule/time_zone", "unknown_timezone"),
    ("time missing", {"schedule": {"at": ...}}, "/schedule/at", "bad_time"),
    ("time null", {"schedule": {"at": None}}, "/schedule/at", "bad_time"),
    ("time late", {"schedule": {"at": "25:00"}}, "/schedule/at", "bad_time"),
    ("time with seconds", {"schedule": {"at": "09:00:00"}}, "/schedule/at", "max_length"),
    ("time of hourly", {"schedule": {"kind": "hourly"}}, "/schedule/at", "not_applicable"),
    ("interval zero", {"schedule": {"interval": 0}}, "/schedule/interval", "min_value"),
    ("interval of years", {"schedule": {"interval": 367}}, "/schedule/interval", "bad_interval"),
    ("interval huge", {"schedule": {"interval": 10**40}}, "/schedule/interval", "max_value"),
    ("interval a float", {"schedule": {"interval": 1.0}}, "/schedule/interval", "invalid"),
    ("weekdays of daily", {"schedule": {"weekdays": [1]}}, "/schedule/weekdays", "not_applicable"),
    ("weekdays twice", {"schedule": {"kind": "weekly", "weekdays": [1, 1]}}, "/schedule/weekdays", "bad_weekdays"),
    ("weekday eight", {"schedule": {"kind": "weekly", "weekdays": [8]}}, "/schedule/weekdays/0", "max_value"),
    ("weekdays a number", {"schedule": {"kind": "weekly", "weekdays": 1}}, "/schedule/weekdays", "not_a_list"),
    ("weekdays many", {"schedule": {"kind": "weekly", "weekdays": [1] * 8}}, "/schedule/weekdays", "max_length"),
    ("day of daily", {"schedule": {"day": 5}}, "/schedule/day", "not_applicable"),
    ("day 32", {"schedule": {"kind": "monthly", "day": 32}}, "/schedule/day", "max_value"),
    ("start naive", {"schedule": {"start_at": "2030-03-30T09:00:00"}}, "/schedule/start_at", "no_offset"),
    ("start null", {"schedule": {"start_at": None}}, "/schedule/start_at", "null"),
    ("start no day", {"schedule": {"start_at": "2030-02-30T09:00:00Z"}}, "/schedule/start_at", "no_offset"),
    ("start a number", {"schedule": {"start_at": 1_900_000_000}}, "/schedule/start_at", "no_offset"),
    ("start past", {"schedule": {"start_at": "2030-03-28T20:15:00Z"}}, "/schedule/start_at", "start_in_past"),
    ("start far past", {"schedule": {"start_at": "0001-01-01T00:00:00Z"}}, "/schedule/start_at", "bad_anchor"),
    ("start far ahead", {"schedule": {"start_at": "2036-01-01T00:00:00Z"}}, "/schedule/start_at", "start_too_far"),
    ("start absurd", {"schedule": {"start_at": "9999-12-31T23:59:59Z"}}, "/schedule/start_at", "bad_anchor"),
    ("end before start", {"schedule": {"end_at": "2030-03-29T22:00:00Z"}}, "/schedule/end_at", "end_before_start"),
    ("end before the first run", {"schedule": {"end_at": "2030-03-30T07:59:59Z"}}, "/schedule/end_at", "never_runs"),
    ("no runs", {"schedule": {"max_runs": 0}}, "/schedule/max_runs", "min_value"),
    ("runs as text", {"schedule": {"max_runs": "5"}}, "/schedule/max_runs", "invalid"),
    ("schedule unknown field", {"schedule": {"timezone": "UTC"}}, "/schedule/timezone", "unknown_field"),
    ("cron of daily", {"schedule": {"cron": "0 9 * * *"}}, "/schedule/cron", "not_applicable"),
]  # fmt: skip
# Found by the rules of plans, after each value alone is well-formed: these are the problem itself.
RULES = {
    "below_minimum", "budget_below_amount", "price_limits_crossed", "slippage_above_guard", "bad_time", "bad_interval",
    "not_applicable", "bad_weekdays", "start_in_past", "bad_anchor", "start_too_far", "end_before_start", "never_runs",
}  # fmt: skip
BY_RULE = {
    "name of two lines",
    "name that turns its text",
    "amount beyond any asset",
    "budget beyond any asset",
}


@pytest.mark.parametrize(
    ("name", "changes", "pointer", "code"), [pytest.param(*row, id=row[0]) for row in BAD]
)
@pytest.mark.parametrize("path", ["/api/v1/plans", "/api/v1/plans/preview"])
def test_bad_input_is_pointed_at_and_changes_nothing(
    desk: Desk, path: str, name: str, changes: dict[str, Any], pointer: str, code: str
) -> None:
    before = everything()
    body = desk.body(**changes) if changes.get("schedule") is not ... else desk.body()
    if changes.get("schedule") is ...:
        del body["schedule"]
    if path.endswith("preview") and name == "amount below it after the fee":
        assert desk.client.post(path, body).json()["warnings"][1]["code"] == "below_minimum"
        return

    answer = desk.client.post(path, body, idempotency_key="bad")

    problem_code = code if code in RULES or name in BY_RULE else "validation_failed"
    problem(answer, 400, problem_code, errors=[(pointer, code)])
    assert everything() == before
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize(
    ("cron", "code"),
    [
        ("0 0 30 2 *", "never_fires"),
        ("0 0 31 4,6,9,11 *", "never_fires"),
        ("* * * * *", "too_often"),
        ("*/4 * * * *", "too_often"),
        # Once a day two minutes apart, which the first two runs from a start would not show.
        ("58,0 9,10 * * *", "too_often"),
        ("0,58 0,23 * * *", "too_often"),
        ("0 9 * *", "bad_cron"),
        ("0 9 * * * *", "bad_cron"),
        ("@daily", "bad_cron"),
        ("0 9 * * 9", "bad_cron"),
        ("0 9 L * *", "bad_cron"),
        ("0" * 120, "bad_cron"),
        ("0 0 */2 * 1", "ambiguous_cron"),
        ("", "bad_cron"),
    ],
)
def test_cron_that_cannot_be_kept_is_refused(desk: Desk, cron: str, code: str) -> None:
    answer = desk.post(schedule={"kind": "cron", "at": ..., "cron": cron})

    problem(answer, 400, code, errors=[("/schedule/cron", code)])
    assert everything() == ([], [], [])


@pytest.mark.parametrize("cron", ["*/5 * * * *", "0,55 0,23 * * *", "0 9 29 2 *", "30 2 * * sun"])
def test_cron_as_often_as_allowed_is_taken(desk: Desk, cron: str) -> None:
    assert desk.post(schedule={"kind": "cron", "at": ..., "cron": cron}).status_code == 201


def test_the_refusal_says_what_would_be_allowed(desk: Desk) -> None:
    slippage = problem(desk.post(max_slippage_bps=500), 400, "slippage_above_guard")
    minimum = problem(desk.post(amount="0.5"), 400, "below_minimum")

    assert slippage["detail"] == "This market allows at most 200 basis points."
    assert minimum["detail"] == "After the fee, at least 1 USDC must be left to trade."


def test_all_that_is_malformed_is_said_at_once(desk: Desk) -> None:
    answer = desk.post(amount="-1", colour="red", schedule={"at": 9, "time_zone": "Mars/Base"})

    errors = [
        ("/amount", "negative"),
        ("/colour", "unknown_field"),
        ("/schedule/at", "invalid"),
        ("/schedule/time_zone", "unknown_timezone"),
    ]
    problem(answer, 400, "validation_failed", errors=errors)


def test_a_closed_market_takes_no_plan(desk: Desk) -> None:
    Market.objects.update(enabled=False)

    problem(desk.post(), 400, "validation_failed", errors=[("/market", "unknown_market")])


def test_without_a_fee_schedule_a_plan_is_refused_for_now(desk: Desk) -> None:
    _, gold = user_with_key("gold@example.org", fee_tier="gold")

    answer = gold.post("/api/v1/plans", desk.body(), idempotency_key="k")

    problem(answer, 503, "unavailable", retryable=True)
    assert everything() == ([], [], [])


@pytest.mark.parametrize(
    ("raw", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_json"),
        (b'{"amount": "1", "amount": "2"}', "application/json", 400, "malformed_json"),
        (b'{"amount": NaN}', "application/json", 400, "malformed_json"),
        (b"\xff\xfe", "application/json", 400, "malformed_json"),
        (b"name=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b" " * 10_241, "application/json", 413, "body_too_large"),
    ],
)
def test_a_body_that_is_no_plan_at_all_is_refused(
    desk: Desk, raw: bytes, content_type: str, status: int, code: str
) -> None:
    headers = {"idempotency_key": "raw"}
    answer = desk.client.send("POST", "/api/v1/plans", body=raw, content_type=content_type, headers=headers)

    problem(answer, status, code)
    assert everything() == ([], [], [])


@pytest.mark.parametrize("body", [[], ["a"], "text", 5, None])
def test_a_body_that_is_no_object_is_refused(desk: Desk, body: Any) -> None:
    answer = desk.client.post("/api/v1/plans", body, idempotency_key="k")

    assert answer.status_code == 400
    assert everything() == ([], [], [])


def test_creating_wants_an_idempotency_key_and_repeats_its_answer(desk: Desk) -> None:
    body = desk.body()
    problem(desk.client.post("/api/v1/plans", body), 400, "idempotency_key_required")

    first = desk.client.post("/api/v1/plans", body, idempotency_key="same")
    again = desk.client.post("/api/v1/plans", body, idempotency_key="same")
    other = desk.client.post("/api/v1/plans", {**body, "amount": "200"}, idempotency_key="same")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again["Location"] == first["Location"]
    assert again["Idempotent-Replayed"] == "true"
    problem(other, 422, "idempotency_key_reused")
    assert Plan.objects.count() == 1
    assert topics() == ["plan.created"]


def test_the_same_key_of_two_people_makes_two_plans(desk: Desk) -> None:
    _, bob = user_with_key("bob@example.org")
    answers = [who.post("/api/v1/plans", desk.body(), idempotency_key="same") for who in (desk.client, bob)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert Plan.objects.values("owner_id").distinct().count() == 2


def test_a_key_without_the_scope_may_not(desk: Desk) -> None:
    _, reader = user_with_key("bob@example.org", scopes=["plans:read"])

    problem(reader.post("/api/v1/plans", desk.body(), idempotency_key="k"), 403, "insufficient_scope")
    problem(ApiClient().post("/api/v1/plans", desk.body(), idempotency_key="k"), 401, "not_authenticated")
    assert reader.get("/api/v1/plans").status_code == 200
    assert everything() == ([], [], [])


def test_a_persons_live_plans_are_bounded_and_ended_ones_make_room(desk: Desk, settings: Any) -> None:
    settings.PLANS_PER_PERSON = 2
    first, second = desk.plan(), desk.plan()
    services.plan_pause(owner_id=desk.user.pk, plan_id=second.pk)

    refusal = problem(desk.post(), 409, "too_many_plans")
    assert refusal["detail"] == "A person has at most 2 live plans."
    services.plan_cancel(owner_id=desk.user.pk, plan_id=first.pk)
    assert desk.post().status_code == 201


@pytest.mark.django_db(transaction=True)
def test_two_plans_at_once_do_not_pass_the_bound(
    desk: Desk, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PLANS_PER_PERSON = 1

    def race() -> int:
        """How many of two plans, created at once, are there afterwards."""
        Plan.objects.all().delete()
        refused: list[str] = []
        start = threading.Barrier(2)

        def create() -> None:
            try:
                start.wait(10)
                desk.plan()
            except Conflict as error:
                refused.append(error.code)
            finally:
                connection.close()

        threads = [threading.Thread(target=create) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert refused == ["too_many_plans"] * (2 - Plan.objects.count())
        return Plan.objects.count()

    # Without the person's lock both count none before either has written its plan.
    both_counted = threading.Barrier(2)
    save = Plan.save

    def save_after_both_counted(plan: Plan, **options: Any) -> None:
        both_counted.wait(10)
        save(plan, **options)

    with monkeypatch.context() as lock_off:
        lock_off.setattr(services, "_person_lock", lambda _: "standard")
        lock_off.setattr(Plan, "save", save_after_both_counted)
        assert race() == 2
    assert race() == 1


@pytest.mark.django_db(transaction=True)
def test_no_plan_is_made_for_an_account_that_was_just_closed(desk: Desk) -> None:
    answer = meanwhile(lambda: account_close(user_id=desk.user.pk), desk.plan)

    assert (type(answer), Plan.objects.count()) == (NotFound, 0)


def test_creating_takes_a_fixed_number_of_queries(
    desk: Desk, django_assert_num_queries: Callable[..., Any]
) -> None:
    desk.post()
    body = desk.body()
    MARKETS.forget()
    SCHEDULES.forget()

    # Key; savepoint and key's lock, look-up, row; market; person; fee; count; savepoint, plan, 2 for the event.
    with django_assert_num_queries(15):
        assert desk.client.post("/api/v1/plans", body, idempotency_key="counted").status_code == 201
