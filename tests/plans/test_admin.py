"""The operators' pages: they open, they show why, and they change nothing but through services."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from apps.accounts.models import User
from apps.events.models import Event
from apps.plans.models import Plan
from tests.plans.support import Platform, in_hours

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create(email="op@example.org", is_staff=True, is_superuser=True))
    return client


def test_lists_and_details_open_with_the_decision_record(platform: Platform, operator: Client) -> None:
    plan = platform.plan(platform.person(usdc=1_000))
    platform.settle()
    slot = plan.slots.get()
    assert slot.batch_id is not None
    pages = {
        "/admin/plans/plan/": "every 24 hours",
        f"/admin/plans/plan/{plan.pk}/change/": plan.name,
        "/admin/plans/slot/": "filled",
        # The batch's half of the record too, the reasons in words, and the way to the transaction.
        f"/admin/plans/slot/{slot.pk}/change/": "deviation_bps",
        "/admin/plans/batch/": "settled",
        f"/admin/plans/batch/{slot.batch_id}/change/": "min_out_units",
    }

    text = operator.get(f"/admin/plans/slot/{slot.pk}/change/").content.decode()
    assert "Of 100 USDC, the fee of tier standard takes 0.5 USDC" in text
    assert slot.batch is not None
    assert f"/admin/chain/outboundtransaction/{slot.batch.transaction_id}/change/" in text
    for path, said in pages.items():
        answer = operator.get(path)
        assert answer.status_code == 200, path
        assert said in answer.content.decode(), path


def test_pausing_from_the_list_goes_through_the_service(platform: Platform, operator: Client) -> None:
    plan = platform.plan(platform.person(usdc=1_000))

    operator.post("/admin/plans/plan/", {"action": "pause", "_selected_action": [str(plan.pk)]})

    plan.refresh_from_db()
    assert (plan.state, plan.state_reason) == ("paused", "by_operator")
    event = Event.objects.get(topic="plan.paused", object_id=plan.pk)
    assert event.payload["reason"] == "by_operator"
    entry = LogEntry.objects.get()
    assert (entry.user.email, entry.object_id, entry.change_message) == (
        "op@example.org",
        str(plan.pk),
        "Paused; now paused.",
    )


def test_what_cannot_be_resumed_does_not_stop_the_others(platform: Platform, operator: Client) -> None:
    owner = platform.person(usdc=1_000)
    states = ("paused", "cancelled", "active")
    plans = [platform.plan(owner, state=state, start_at=in_hours(1)) for state in states]
    chosen = [str(plan.pk) for plan in plans]

    page = operator.post("/admin/plans/plan/", {"action": "resume", "_selected_action": chosen}, follow=True)

    assert [Plan.objects.get(pk=pk).state for pk in chosen] == ["active", "cancelled", "active"]
    assert "it cannot be resumed any more" in page.content.decode()
    assert "1 plans resumed." in page.content.decode()
    assert [entry.object_id for entry in LogEntry.objects.all()] == chosen[:1]


def test_who_may_only_look_is_given_no_action(platform: Platform) -> None:
    plan = platform.plan(platform.person(usdc=1_000))
    looker = User.objects.create(email="looker@example.org", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_plan"))
    client = Client()
    client.force_login(looker)

    assert client.get("/admin/plans/plan/").status_code == 200
    client.post("/admin/plans/plan/", {"action": "pause", "_selected_action": [str(plan.pk)]})

    assert Plan.objects.get().state == "active"


def test_lists_take_a_fixed_number_of_queries(
    platform: Platform, operator: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    owner = platform.person(usdc=10_000)
    for _ in range(12):
        platform.plan(owner)
    platform.settle()

    # Session, user, filters' choices, count, rows: nothing per row.
    for name in ("plan", "slot", "batch"):
        operator.get(f"/admin/plans/{name}/")
        with django_assert_max_num_queries(9):
            assert operator.get(f"/admin/plans/{name}/").status_code == 200
    market = Plan.objects.values_list("market_id", flat=True)[0]
    assert "100 USDC into WETH" in operator.get(f"/admin/plans/plan/?market={market}").content.decode()


@pytest.mark.parametrize("model", ["plan", "slot", "batch"])
def test_nothing_is_added_or_deleted_by_hand(platform: Platform, operator: Client, model: str) -> None:
    assert operator.get(f"/admin/plans/{model}/add/").status_code == 403
