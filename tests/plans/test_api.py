"""Plans over REST, from a person's point of view."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from apps.core import clock, work
from apps.events.models import Event
from apps.plans import kinds
from apps.plans.models import Plan
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.plans.support import USDC, Platform

pytestmark = pytest.mark.django_db(transaction=True)


def body(**changes: Any) -> dict[str, Any]:
    start = clock.now() + timedelta(hours=1)
    schedule = {"kind": "daily", "at": "09:00", "time_zone": "Europe/Berlin", "start_at": start.isoformat()}
    return {
        "name": "Ether every day",
        "market": "USDC/WETH",
        "amount": "100",
        "schedule": {**schedule, **changes.pop("schedule", {})},
        **changes,
    }


def create(client: ApiClient, key: str = "k1", **changes: Any) -> Any:
    return client.post("/api/v1/plans", body(**changes), idempotency_key=key)


def test_a_created_plan_says_what_it_is_and_when_it_runs(platform: Platform) -> None:
    user, client = user_with_key()

    answer = create(client, total_budget="1000.5", price_max="4000")

    assert answer.status_code == 201, answer.content
    plan = Plan.objects.get()
    document = answer.json()
    assert (plan.owner_id, plan.amount_units, plan.total_budget_units) == (user.pk, 100 * USDC, 1_000_500_000)
    assert document["amount"] == "100"
    assert document["total_budget"] == "1000.5"
    assert document["price_max"] == "4000"
    assert document["schedule"]["description"] == "every day at 09:00 Europe/Berlin"
    assert document["next_run_at"] == plan.run_after.isoformat().replace("+00:00", "Z")
    assert (document["state"], document["version"], document["next_number"]) == ("active", 1, 1)
    assert list(Event.objects.values_list("topic", "object_id")) == [("plan.created", plan.pk)]


def test_creating_wants_an_idempotency_key_and_repeats_its_answer(platform: Platform) -> None:
    _, client = user_with_key()
    payload = body()

    problem(client.post("/api/v1/plans", payload), 400, "idempotency_key_required")
    first = client.post("/api/v1/plans", payload, idempotency_key="same")
    second = client.post("/api/v1/plans", payload, idempotency_key="same")

    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert Plan.objects.count() == 1


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("number as amount", {"amount": 100}, "/amount", "not_a_string"),
    ("too many decimals", {"amount": "1.0000001"}, "/amount", "too_many_decimals"),
    ("negative", {"amount": "-1"}, "/amount", "negative"),
    ("zero", {"amount": "0"}, "/amount", "zero"),
    ("huge", {"amount": "9" * 78}, "/amount", "too_large"),
    ("exponent", {"amount": "1e3"}, "/amount", "invalid_amount"),
    ("below minimum", {"amount": "0.5"}, "/amount", "below_minimum"),
    ("unknown pair", {"market": "WBTC/LINK"}, "/market", "unknown_market"),
    ("no market", {"market": None}, "/market", "null"),
    ("unknown field", {"colour": "red"}, "/colour", "unknown_field"),
    ("owner is not assignable", {"owner_id": "x"}, "/owner_id", "unknown_field"),
    ("state is not assignable", {"state": "completed"}, "/state", "unknown_field"),
    ("empty name", {"name": ""}, "/name", "blank"),
    ("long name", {"name": "x" * 81}, "/name", "max_length"),
    ("NUL in name", {"name": "a\x00b"}, "/name", "invalid_character"),
    ("budget below amount", {"total_budget": "99"}, "/total_budget", "budget_below_amount"),
    ("limits crossed", {"price_min": "3000", "price_max": "2000"}, "/price_min", "price_limits_crossed"),
    ("price decimals", {"price_max": "1.0000001"}, "/price_max", "too_many_decimals"),
    ("slippage above guard", {"max_slippage_bps": 201}, "/max_slippage_bps", "slippage_above_guard"),
    ("slippage negative", {"max_slippage_bps": -1}, "/max_slippage_bps", "min_value"),
    ("slippage as text", {"max_slippage_bps": "50"}, "/max_slippage_bps", "invalid"),
    ("unknown policy", {"missed_policy": "all"}, "/missed_policy", "invalid_choice"),
    ("schedule is a list", {"schedule": {"kind": ["daily"]}}, "/schedule/kind", "invalid_choice"),
    ("unknown kind", {"schedule": {"kind": "yearly"}}, "/schedule/kind", "invalid_choice"),
    (
        "unknown zone",
        {"schedule": {"time_zone": "Europe/Atlantis"}},
        "/schedule/time_zone",
        "unknown_timezone",
    ),
    ("bad time", {"schedule": {"at": "25:00"}}, "/schedule/at", "bad_time"),
    ("zero interval", {"schedule": {"interval": 0}}, "/schedule/interval", "min_value"),
    ("large interval", {"schedule": {"interval": 367}}, "/schedule/interval", "bad_interval"),
    ("naive start", {"schedule": {"start_at": "2026-03-01T09:00:00"}}, "/schedule/start_at", "no_offset"),
    ("past start", {"schedule": {"start_at": "2020-01-01T00:00:00Z"}}, "/schedule/start_at", "start_in_past"),
    ("far start", {"schedule": {"start_at": "2060-01-01T00:00:00Z"}}, "/schedule/start_at", "start_too_far"),
    (
        "end before start",
        {"schedule": {"end_at": "2020-01-01T00:00:00Z"}},
        "/schedule/end_at",
        "end_before_start",
    ),
    ("no runs", {"schedule": {"max_runs": 0}}, "/schedule/max_runs", "min_value"),
    ("weekday of daily", {"schedule": {"weekdays": [1]}}, "/schedule/weekdays", "not_applicable"),
    (
        "cron never fires",
        {"schedule": {"kind": "cron", "at": None, "cron": "0 0 30 2 *"}},
        "/schedule/at",
        "null",
    ),
]


@pytest.mark.parametrize(
    ("changes", "pointer", "code"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_bad_input_is_pointed_at_and_changes_nothing(
    platform: Platform, changes: dict[str, Any], pointer: str, code: str
) -> None:
    _, client = user_with_key()

    answer = create(client, **changes)

    assert answer.status_code == 400
    document = answer.json()
    found = {(error.get("pointer"), error["code"]) for error in document["errors"]}
    assert (pointer, code) in found, document
    assert (Plan.objects.count(), Event.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("cron", "code"),
    [
        ("0 0 30 2 *", "never_fires"),
        ("* * * * *", "too_often"),
        ("0 9 * *", "bad_cron"),
        ("0 9 * * * *", "bad_cron"),
        ("@daily", "bad_cron"),
        ("0 9 * * 9", "bad_cron"),
        ("0" * 120, "bad_cron"),
    ],
)
def test_cron_that_cannot_be_kept_is_refused(platform: Platform, cron: str, code: str) -> None:
    _, client = user_with_key()
    payload = body()
    payload["schedule"] = {**payload["schedule"], "kind": "cron", "cron": cron}
    del payload["schedule"]["at"]

    answer = client.post("/api/v1/plans", payload, idempotency_key="k")

    problem(answer, 400, code, errors=[("/schedule/cron", code)])
    assert Plan.objects.count() == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/cancel"),
        ("GET", "/slots"),
        ("GET", "/preview"),
    ],
)
def test_somebody_elses_plan_is_not_there(platform: Platform, method: str, path: str) -> None:
    _, ann = user_with_key("ann@example.org")
    _, bob = user_with_key("bob@example.org")
    plan_id = create(ann).json()["id"]
    before = Plan.objects.values().get()

    answer = bob.send(
        method, f"/api/v1/plans/{plan_id}{path}", body={"version": 1} if method == "PATCH" else None
    )

    problem(answer, 404, "not_found")
    assert Plan.objects.values().get() == before


def test_somebody_elses_slot_is_not_there(platform: Platform) -> None:
    owner, client = user_with_key("ann@example.org")
    _, bob = user_with_key("bob@example.org")
    plan = platform.plan(owner)
    work.drain(kinds.OPEN)
    slot = plan.slots.get()

    assert client.get(f"/api/v1/slots/{slot.pk}").status_code == 200
    problem(bob.get(f"/api/v1/slots/{slot.pk}"), 404, "not_found")


def test_a_key_without_the_scope_may_not(platform: Platform) -> None:
    _, reader = user_with_key(scopes=["plans:read"])

    problem(create(reader), 403, "insufficient_scope")
    assert reader.get("/api/v1/plans").status_code == 200
    assert Plan.objects.count() == 0


def test_pause_resume_cancel_move_the_plan_and_say_so(platform: Platform) -> None:
    _, client = user_with_key()
    plan_id = create(client).json()["id"]
    url = f"/api/v1/plans/{plan_id}"

    assert client.post(f"{url}/pause").json()["state"] == "paused"
    assert client.post(f"{url}/pause").json()["state"] == "paused"
    assert client.post(f"{url}/resume").json()["state"] == "active"
    assert client.post(f"{url}/cancel").json()["state"] == "cancelled"
    problem(client.post(f"{url}/resume"), 409, "illegal_transition")

    topics = list(Event.objects.order_by("sequence").values_list("topic", flat=True))
    assert topics == ["plan.created", "plan.paused", "plan.resumed", "plan.cancelled"]


def test_what_passed_during_a_pause_was_not_missed(platform: Platform) -> None:
    owner, client = user_with_key()
    plan = platform.plan(owner)
    platform.fund(owner, usdc=1_000)
    platform.settle()
    client.post(f"/api/v1/plans/{plan.pk}/pause")
    platform.travel(seconds=5 * 86_400)

    document = client.post(f"/api/v1/plans/{plan.pk}/resume").json()

    plan.refresh_from_db()
    assert plan.run_after > clock.now()
    assert (document["next_number"], plan.slots.count()) == (2, 1)


def test_an_update_needs_the_version_that_was_read(platform: Platform) -> None:
    _, client = user_with_key()
    url = f"/api/v1/plans/{create(client).json()['id']}"

    changed = client.patch(url, {"version": 1, "amount": "250", "name": "More"})
    stale = client.patch(url, {"version": 1, "amount": "300"})

    assert (changed.json()["amount"], changed.json()["name"], changed.json()["version"]) == ("250", "More", 2)
    problem(stale, 409, "version_conflict")
    assert Plan.objects.get().amount_units == 250 * USDC


def test_a_limit_is_taken_away_with_null(platform: Platform) -> None:
    _, client = user_with_key()
    url = f"/api/v1/plans/{create(client, price_max='4000', total_budget='500').json()['id']}"

    document = client.patch(url, {"version": 1, "price_max": None, "total_budget": None}).json()

    assert (document["price_max"], document["total_budget"]) == (None, None)


def test_a_new_schedule_runs_after_now_and_numbers_go_on(platform: Platform) -> None:
    owner, client = user_with_key()
    platform.fund(owner, usdc=1_000)
    plan = platform.plan(owner)
    platform.settle()
    schedule = {"kind": "hourly", "time_zone": "UTC", "start_at": clock.now().isoformat()}

    document = client.patch(f"/api/v1/plans/{plan.pk}", {"version": 1, "schedule": schedule}).json()

    plan.refresh_from_db()
    assert (document["schedule"]["kind"], document["next_number"]) == ("hourly", 2)
    assert clock.now() < plan.run_after <= clock.now() + timedelta(hours=1)


def test_slots_tell_their_outcome_and_one_slot_tells_why(platform: Platform) -> None:
    owner, client = user_with_key()
    platform.fund(owner, usdc=100)
    plan = platform.plan(owner)
    platform.settle()
    platform.travel(seconds=86_400)
    platform.maker.refresh_feeds()
    platform.settle()

    page = client.get(f"/api/v1/plans/{plan.pk}/slots").json()
    first_page = client.get(f"/api/v1/plans/{plan.pk}/slots", {"limit": "1"}).json()
    next_page = client.get(
        f"/api/v1/plans/{plan.pk}/slots", {"limit": "1", "cursor": first_page["next_cursor"]}
    ).json()
    settled = client.get(f"/api/v1/slots/{page['data'][1]['id']}").json()
    missed = client.get(f"/api/v1/plans/{plan.pk}/slots", {"reason": "insufficient_funds"}).json()

    assert [(slot["number"], slot["state"], slot["reason"]) for slot in page["data"]] == [
        (2, "skipped", "insufficient_funds"),
        (1, "settled", "filled"),
    ]
    assert [slot["number"] for slot in first_page["data"] + next_page["data"]] == [2, 1]
    assert next_page["next_cursor"] is None
    assert [slot["number"] for slot in missed["data"]] == [2]
    assert (settled["amount"], settled["fee"], settled["swapped"]) == ("100", "0.5", "99.5")
    assert settled["transaction"]["state"] == "confirmed"
    assert settled["transaction"]["hash"].startswith("0x")
    assert settled["batch"]["filled_out"] == settled["received"]
    assert settled["decision"]["quote"]["reference"]["source"]
    assert [journal["kind"] for journal in settled["journals"]] == ["hold", "purchase"]


def test_the_preview_shows_runs_cost_and_runway(platform: Platform) -> None:
    owner, client = user_with_key()
    platform.fund(owner, usdc=250)

    document = client.post("/api/v1/plans/preview?count=3", body()).json()

    assert [run["amount"] for run in document["runs"]] == ["100"] * 3
    assert [run["fee"] for run in document["runs"]] == ["0.5"] * 3
    assert all(run["local_at"][11:16] == "09:00" for run in document["runs"])
    assert (document["available"], document["funded_runs"]) == ("250", 2)
    assert document["funds_last_until"] == document["runs"][1]["scheduled_at"]
    assert Plan.objects.count() == 0


def test_a_persons_live_plans_are_bounded(platform: Platform, settings: Any) -> None:
    settings.PLANS_PER_PERSON = 2
    _, client = user_with_key()
    assert [create(client, key=str(n)).status_code for n in range(2)] == [201, 201]

    problem(create(client, key="third"), 409, "too_many_plans")
    assert Plan.objects.count() == 2


def test_costs_in_queries_are_what_they_were(
    platform: Platform, django_assert_num_queries: Callable[[int], Any]
) -> None:
    owner, client = user_with_key()
    plan = platform.plan(owner)
    for _ in range(5):
        platform.plan(owner)
    platform.fund(owner, usdc=10_000)
    platform.settle()
    slot = plan.slots.get()
    client.get("/api/v1/plans")  # the key's last use is written once a minute

    with django_assert_num_queries(2):
        client.get("/api/v1/plans")
    with django_assert_num_queries(2):
        client.get(f"/api/v1/plans/{plan.pk}")
    with django_assert_num_queries(3):
        client.get(f"/api/v1/plans/{plan.pk}/slots")
    with django_assert_num_queries(3):
        client.get(f"/api/v1/slots/{slot.pk}")
