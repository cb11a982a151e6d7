"""The operators' pages: they open, they show why, and they change nothing but through services."""

import pytest
from django.test import Client

from apps.accounts.models import User
from apps.events.models import Event
from apps.plans.models import Plan
from tests.plans.support import Platform

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
        f"/admin/plans/slot/{slot.pk}/change/": "fee_units",
        "/admin/plans/batch/": "settled",
        f"/admin/plans/batch/{slot.batch_id}/change/": "min_out_units",
    }

    for path, said in pages.items():
        answer = operator.get(path)
        assert answer.status_code == 200, path
        assert said in answer.content.decode(), path


def test_pausing_from_the_list_goes_through_the_service(platform: Platform, operator: Client) -> None:
    plan = platform.plan(platform.person(usdc=1_000))

    operator.post("/admin/plans/plan/", {"action": "pause", "_selected_action": [str(plan.pk)]})

    assert Plan.objects.get().state == "paused"
    assert Event.objects.filter(topic="plan.paused", object_id=plan.pk).count() == 1


@pytest.mark.parametrize("model", ["plan", "slot", "batch"])
def test_nothing_is_added_or_deleted_by_hand(platform: Platform, operator: Client, model: str) -> None:
    assert operator.get(f"/admin/plans/{model}/add/").status_code == 403
