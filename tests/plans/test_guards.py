"""What a killed and restarted worker meets: each guard first taken away, to show what it holds back.

A kill case proves something only if the same kill without its guard does harm.
"""

import dataclasses
from collections.abc import Sequence

import pytest
from django.db import connection

from apps.core import clock, work
from apps.core.ids import uuid7
from apps.ledger.domain import AccountKind, JournalDraft, PostResult
from apps.ledger.services import journals_post
from apps.plans import kinds
from apps.plans.models import Batch, Plan, Slot
from apps.plans.steps import settling
from apps.plans.steps.opening import slots_open
from tests.plans.support import USDC, Platform

pytestmark = pytest.mark.django_db(transaction=True)


def test_without_the_unique_slot_an_opening_made_twice_opens_twice(platform: Platform) -> None:
    """The plan as a worker read it before it stalled; another one has opened its slot meanwhile."""
    plan = platform.plan(platform.person(usdc=1_000))
    stale = Plan.objects.get(pk=plan.pk)
    work.drain(kinds.OPEN)
    unique = next(c for c in Slot._meta.constraints if c.name == "plans_slot_once")

    with connection.schema_editor() as editor:
        editor.remove_constraint(Slot, unique)
    try:
        slots_open([stale])
        assert list(plan.slots.values_list("number", flat=True)) == [1, 1]
    finally:
        Slot.objects.all().delete()
        with connection.schema_editor() as editor:
            editor.add_constraint(Slot, unique)


@pytest.mark.parametrize(("guarded", "charged", "bought"), [(False, 2, 2), (True, 1, 1)])
def test_a_settlement_whose_marks_were_lost_pays_twice_unless_its_journals_have_names(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, guarded: bool, charged: int, bought: int
) -> None:
    """The reference `slot:…:settle` is what makes a second settlement a repetition.

    The person has another hold of the same size: without the reference its money would pay for it.
    """
    person = platform.person(usdc=1_000)
    platform.plan(person)
    platform.settle()
    received = platform.balance(person, "WETH")
    other = platform.plan(person)
    work.drain(kinds.OPEN)
    work.drain(kinds.RESERVE)
    assert platform.balance(person, "USDC", AccountKind.HELD) == 100 * USDC
    Slot.objects.exclude(plan=other).update(state="batched", reason="", closed_at=None, received_units=None)
    Batch.objects.update(state="sending", run_after=clock.now())
    if not guarded:

        def anonymous(*, drafts: Sequence[JournalDraft]) -> PostResult:
            return journals_post(
                drafts=[dataclasses.replace(draft, reference=f"any:{uuid7()}") for draft in drafts]
            )

        monkeypatch.setattr(settling, "journals_post", anonymous)

    assert work.drain(kinds.SETTLE) == 1

    assert Batch.objects.get().state == "settled"
    assert platform.balance(person, "USDC", AccountKind.HELD) == (2 - charged) * 100 * USDC
    assert platform.balance(person, "WETH") == bought * received
