"""Slots that are reserved while others of the same moment are not yet: they wait for each other, for a while."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from apps.core import work
from apps.plans import kinds
from apps.plans.models import Batch, Slot
from apps.plans.steps.batching import GATHER_SECONDS, slots_gathering
from tests.plans.support import Platform
from workers.plans import slots_batch

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def half_reserved(platform: Platform) -> None:
    for _ in range(2):
        platform.plan(platform.person(usdc=1_000))
    work.drain(kinds.OPEN)
    one = replace(kinds.RESERVE, chunk=1)
    work._work_on(work.claim_due(one))
    assert sorted(Slot.objects.values_list("state", flat=True)) == ["open", "reserved"]


@pytest.mark.usefixtures("half_reserved")
def test_a_batch_waits_for_slots_that_are_being_reserved() -> None:
    assert slots_gathering()
    slots_batch()
    assert not Batch.objects.exists()

    work.drain(kinds.RESERVE)

    assert not slots_gathering()
    slots_batch()
    assert Batch.objects.get().slot_count == 2


@pytest.mark.usefixtures("half_reserved")
def test_a_reserved_slot_does_not_wait_for_ever() -> None:
    Slot.objects.filter(state="reserved").update(updated_at=Now() - timedelta(seconds=GATHER_SECONDS + 0.1))

    assert not slots_gathering()


@pytest.mark.usefixtures("half_reserved")
@pytest.mark.parametrize("change", [{"buried_at": Now()}, {"run_after": Now() + timedelta(minutes=1)}])
def test_a_slot_that_will_not_be_reserved_now_is_not_waited_for(change: dict[str, object]) -> None:
    Slot.objects.filter(state="open").update(**change)

    assert not slots_gathering()
