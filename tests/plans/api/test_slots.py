"""Plans, slots and one slot's whole record, after real buys on a real chain."""

from collections.abc import Callable
from typing import Any

import pytest

from apps.accounts.models import User
from apps.plans.models import Plan, Slot
from apps.plans.selectors import plan_get, slot_get
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.plans.support import USDC, Platform

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ann(platform: Platform) -> tuple[User, ApiClient]:
    return user_with_key("ann@example.org")


def test_a_bought_slot_tells_everything_that_decided_over_it(
    platform: Platform, ann: tuple[User, ApiClient]
) -> None:
    owner, client = ann
    platform.fund(owner, usdc=250)
    plan = platform.plan(owner, price_max_units=1_000_000 * USDC)
    platform.plan(owner, usdc=50)
    platform.settle()
    slot = plan.slots.get()
    batch = slot.batch
    assert batch is not None
    assert batch.transaction is not None
    assert batch.transaction.attempt is not None
    assert slot.received_units is not None

    document = client.get(f"/api/v1/slots/{slot.pk}").json()

    assert (document["state"], document["reason"], document["number"]) == ("settled", "filled", 1)
    assert (document["amount"], document["fee"], document["swapped"]) == ("100", "0.5", "99.5")
    assert (document["amount_units"], document["received_units"]) == ("100000000", str(slot.received_units))
    assert (document["plan_id"], document["plan_name"]) == (str(plan.pk), plan.name)
    price = -(-99_500_000 * 10**18 // slot.received_units)
    assert document["price"] == f"{price // USDC}.{price % USDC:06}".rstrip("0").rstrip(".")
    shared = document["batch"]
    assert (shared["id"], shared["state"], shared["slots"], shared["tries"]) == (
        str(batch.pk),
        "settled",
        2,
        1,
    )
    assert (shared["amount_in"], shared["filled_in"]) == ("149.25", "149.25")
    assert shared["filled_out_units"] == str(batch.filled_out_units)
    assert int(shared["min_out_units"]) <= int(shared["filled_out_units"])
    transaction = document["transaction"]
    assert (transaction["state"], transaction["block_number"]) == (
        "confirmed",
        batch.transaction.block_number,
    )
    assert transaction["hash"] == batch.transaction.attempt.hash == transaction["attempts"][0]["hash"]
    assert transaction["confirmations"] >= transaction["confirmations_needed"] >= 1
    assert [journal["reference"] for journal in document["journals"]] == [
        f"slot:{slot.pk}:hold",
        f"slot:{slot.pk}:settle",
    ]
    # The slot's own facts and those of its batch, in one record.
    assert document["decision"]["available_units"] in ("250000000", "200000000")
    assert document["decision"]["quote"]["reference"]["numerator"].isdigit()
    assert document["decision"]["min_out_units"] == shared["min_out_units"]
    why = {line["code"]: line["text"] for line in document["why"]}
    assert list(why) == ["fee", "funds", "reference", "quote", "fill", "filled"]
    assert why["fee"] == (
        "Of 100 USDC, the fee of tier standard takes 0.5 USDC and 99.5 USDC are to be swapped."
    )
    assert why["fill"].startswith("99.5 USDC bought 0.")
    assert why["fill"].endswith(f" {document['price']} USDC for one, in one swap with 1 other.")
    assert "the plan allows 200 below" in why["quote"]


def test_a_slot_that_did_not_buy_says_why(platform: Platform, ann: tuple[User, ApiClient]) -> None:
    owner, client = ann
    platform.fund(owner, usdc=120)
    dear = platform.plan(owner, price_max_units=10 * USDC)
    platform.settle()
    poor = platform.plan(owner, usdc=121)
    platform.settle()

    limited = client.get(f"/api/v1/slots/{dear.slots.get().pk}").json()
    unfunded = client.get(f"/api/v1/slots/{poor.slots.get().pk}").json()

    assert (limited["state"], limited["reason"]) == ("skipped", "price_above_limit")
    assert [line["code"] for line in limited["why"]] == [
        "fee",
        "funds",
        "reference",
        "limit",
        "price_above_limit",
    ]
    assert limited["why"][3]["text"] == "The plan buys at most 10 USDC."
    assert limited["decision"]["reference"]["source"]
    assert [journal["kind"] for journal in limited["journals"]] == ["hold", "release"]
    assert limited["batch"]["state"] == "closed"
    assert (limited["transaction"], limited["price"], limited["received"]) == (None, None, None)
    assert (unfunded["reason"], unfunded["batch"], unfunded["journals"]) == ("insufficient_funds", None, [])
    assert [line["text"] for line in unfunded["why"]] == [
        "Of 121 USDC, the fee of tier standard takes 0.605 USDC and 120.395 USDC are to be swapped.",
        "120 USDC were available.",
        "Available funds were below the amount.",
    ]


def test_a_slot_under_way_says_so(platform: Platform, ann: tuple[User, ApiClient]) -> None:
    owner, client = ann
    plan = platform.plan(owner)
    platform.fund(owner, usdc=100)
    platform.work_until(lambda: Slot.objects.filter(state="batched").exists())

    document = client.get(f"/api/v1/slots/{plan.slots.get().pk}").json()
    progress = client.get(f"/api/v1/plans/{plan.pk}").json()["progress"]

    assert (document["state"], document["reason"], document["closed_at"]) == ("batched", "", None)
    assert document["why"][-1] == {"code": "under_way", "text": "It is not decided yet."}
    assert (progress["under_way"], progress["promised"], progress["spent"]) == (1, "100", "0")


def test_slots_are_paged_and_filtered(platform: Platform, ann: tuple[User, ApiClient]) -> None:
    owner, client = ann
    platform.fund(owner, usdc=150)
    plan = platform.plan(owner)
    platform.plan(owner, usdc=1)
    for _ in range(3):
        platform.settle()
        platform.travel(seconds=86_400)
        platform.maker.refresh_feeds()
    path = f"/api/v1/plans/{plan.pk}/slots"

    def numbers(**query: str) -> list[int]:
        return [slot["number"] for slot in client.get(path, query).json()["data"]]

    assert numbers() == [3, 2, 1]
    assert (numbers(state="settled"), numbers(state="skipped")) == ([1], [3, 2])
    assert (numbers(reason="insufficient_funds"), numbers(reason="missed")) == ([3, 2], [])
    assert numbers(state="settled", reason="missed") == []
    walked: list[int] = []
    cursor: str | None = None
    while True:
        page = client.get(path, {"limit": "1", **({"cursor": cursor} if cursor else {})}).json()
        walked += [slot["number"] for slot in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert walked == [3, 2, 1]
    other = client.get(
        f"/api/v1/plans/{Plan.objects.exclude(pk=plan.pk).get().pk}/slots", {"limit": "1"}
    ).json()
    problem(client.get(path, {"cursor": other["next_cursor"]}), 400, "invalid_cursor")
    for name, value, code in (
        ("state", "bought", "invalid_choice"),
        ("reason", "because", "invalid_choice"),
        ("limit", "0", "min_value"),
        ("limit", "101", "max_value"),
        ("colour", "red", "unknown_field"),
    ):
        problem(client.get(path, {name: value}), 400, "validation_failed", errors=[(name, code)])


def test_a_plan_counts_what_became_of_its_slots(platform: Platform, ann: tuple[User, ApiClient]) -> None:
    owner, client = ann
    platform.fund(owner, usdc=100)
    plan = platform.plan(owner, total_budget_units=1_000 * USDC)
    platform.settle()
    platform.travel(seconds=86_400)
    platform.maker.refresh_feeds()
    platform.settle()

    document = client.get(f"/api/v1/plans/{plan.pk}").json()

    received = plan.slots.get(number=1).received_units
    progress = document["progress"]
    assert (progress["settled"], progress["skipped"], progress["failed"], progress["under_way"]) == (
        1,
        1,
        0,
        0,
    )
    assert (progress["spent"], progress["fees"], progress["received_units"]) == ("100", "0.5", str(received))
    assert (document["committed"], document["total_budget"], document["misses_in_a_row"]) == (
        "100",
        "1000",
        1,
    )


def test_reading_takes_a_fixed_number_of_queries(
    platform: Platform, ann: tuple[User, ApiClient], django_assert_num_queries: Callable[..., Any]
) -> None:
    """However many rows: the key, then what each line says."""
    owner, client = ann
    platform.fund(owner, usdc=10_000)
    plans = [platform.plan(owner) for _ in range(4)]
    for _ in range(2):
        platform.settle()
        platform.travel(seconds=86_400)
        platform.maker.refresh_feeds()
    plan = plans[0]
    unfunded = platform.plan(owner, usdc=50_000)
    platform.settle()
    client.get("/api/v1/plans")  # the key's last use is written once a minute

    for path, count in (
        ("/api/v1/plans", 2),  # the page with markets and assets
        (f"/api/v1/plans/{plan.pk}", 3),  # the plan; its progress
        (f"/api/v1/plans/{plan.pk}/slots", 3),  # whose plan it is; the page
        (f"/api/v1/slots/{plan.slots.filter(number=1).get().pk}", 4),  # slot; attempts; journals
        (f"/api/v1/slots/{unfunded.slots.get().pk}", 3),  # slot; journals
        (f"/api/v1/plans/{plan.pk}/preview", 4),  # the plan; fee; balances
    ):
        with django_assert_num_queries(count):
            assert client.get(path).status_code == 200, path


def test_selectors_of_another_person_find_nothing(platform: Platform, ann: tuple[User, ApiClient]) -> None:
    owner, _ = ann
    bob, client = user_with_key("bob@example.org")
    plan = platform.plan(owner)
    platform.fund(owner, usdc=100)
    platform.settle()

    assert client.get("/api/v1/plans").json() == {"data": [], "next_cursor": None}
    assert plan_get(owner_id=owner.pk, plan_id=plan.pk).pk == plan.pk
    for read in (
        lambda: plan_get(owner_id=bob.pk, plan_id=plan.pk),
        lambda: slot_get(owner_id=bob.pk, slot_id=plan.slots.get().pk),
    ):
        with pytest.raises(Exception, match="Not found"):
            read()
