"""A person's change against a worker and against another change: each lock first off, then on."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from apps.core import clock, doorbell, work
from apps.core.errors import Conflict, DomainError
from apps.events.models import Event
from apps.plans import kinds, preview, services
from apps.plans.models import Plan, Slot
from apps.plans.steps.opening import slots_open
from apps.plans.terms import ScheduleInput
from tests.plans.support import Platform
from tests.plans.test_races import together

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_worker_that_claimed_a_plan_leaves_it_alone_once_its_owner_paused_it(platform: Platform) -> None:
    """Twice guarded: the service takes the lease away, and the engine looks at the state again under the lock."""
    plan = platform.plan(platform.person())
    lease_left = platform.plan(platform.person())

    claim = work.claim_due(kinds.OPEN)
    assert set(claim.ids) == {plan.pk, lease_left.pk}
    Plan.objects.filter(pk=lease_left.pk).update(state="paused")
    services.plan_pause(owner_id=plan.owner_id, plan_id=plan.pk)
    work._work_on(claim)

    assert not Slot.objects.exists()
    for paused in (plan, lease_left):
        paused.refresh_from_db()
        assert (paused.state, paused.lease_token, paused.next_number) == ("paused", None, 1)

    # Without either guard the step itself would open a slot of a paused plan.
    with transaction.atomic():
        slots_open([lease_left])
    assert list(Slot.objects.values_list("plan_id", flat=True)) == [lease_left.pk]


def test_a_worker_keeps_to_the_schedule_that_it_finds(platform: Platform) -> None:
    plan = platform.plan(platform.person())
    claim = work.claim_due(kinds.OPEN)

    services.plan_update(owner_id=plan.owner_id, plan_id=plan.pk, version=1, schedule={"interval": 5})
    work._work_on(claim)

    assert not Slot.objects.exists()
    plan.refresh_from_db()
    assert plan.run_after == plan.start_at + timedelta(hours=5)


def test_without_the_lock_two_changes_of_one_version_both_pass_and_with_it_one_does(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = platform.plan(platform.person())

    def race(version: int) -> list[BaseException]:
        def change(name: str) -> None:
            services.plan_update(owner_id=plan.owner_id, plan_id=plan.pk, version=version, name=name)

        return together(lambda: change(f"A{version}"), lambda: change(f"B{version}"))

    both_read = threading.Barrier(2)

    def lock_off(owner_id: UUID, plan_id: UUID) -> Plan:
        row = Plan.objects.select_related("owner", "market__sold_asset").get(pk=plan_id, owner_id=owner_id)
        both_read.wait(10)
        return row

    with monkeypatch.context() as off:
        off.setattr(services, "_lock", lock_off)
        assert race(1) == []
    assert Plan.objects.get().version == 2
    assert Event.objects.filter(topic="plan.updated").count() == 2

    (refused,) = race(2)
    assert isinstance(refused, Conflict)
    assert refused.code == "version_conflict"
    assert (Plan.objects.get().version, Event.objects.filter(topic="plan.updated").count()) == (3, 3)


def test_a_plan_that_is_due_rings_after_the_commit_and_another_does_not(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = platform.person()
    market = platform.seeded.markets["USDC", "WETH"]
    rung: list[str] = []

    def create(start_at: Any) -> None:
        schedule = ScheduleInput(kind="hourly", time_zone="UTC", start_at=start_at)
        with transaction.atomic():
            services.plan_create(
                owner_id=owner.pk, market=market, schedule=schedule, name="Now", amount_units=10**8
            )
            assert rung == []

    # Put back afterwards: another test's process may ring for workers.
    monkeypatch.setattr(doorbell, "_ringer", lambda name, _: rung.append(name))
    create(clock.now() + timedelta(hours=1))
    assert rung == []
    create(clock.now())
    assert rung == ["plans.open"]


def test_resuming_digs_up_what_was_buried(platform: Platform) -> None:
    plan = platform.plan(platform.person(), state="paused", buried_at=clock.now(), attempts=8, last_error="x")

    services.plan_resume(owner_id=plan.owner_id, plan_id=plan.pk)

    plan.refresh_from_db()
    assert (plan.state, plan.buried_at, plan.attempts, plan.last_error) == ("active", None, 0, "")


def test_a_plan_whose_zone_is_gone_is_buried_and_can_be_resumed_with_another(platform: Platform) -> None:
    person = platform.person(usdc=1_000)
    plan, other = platform.plan(person), platform.plan(person)
    # By hand, or by a release of the zones that has it no more.
    Plan.objects.filter(pk=plan.pk).update(schedule_kind="daily", local_time="09:00", zone="Mars/Olympus")

    work.drain(kinds.OPEN)

    plan.refresh_from_db()
    assert (plan.state, plan.next_number, plan.slots.count(), other.slots.count()) == ("active", 1, 0, 1)
    assert plan.buried_at is not None
    assert plan.last_error == "schedule: Not an IANA time zone."
    # and it is no end of it to whoever pauses and resumes it
    services.plan_pause(owner_id=person.pk, plan_id=plan.pk)
    with pytest.raises(DomainError) as refused:
        services.plan_resume(owner_id=person.pk, plan_id=plan.pk)
    assert (refused.value.code, refused.value.pointer) == ("unknown_zone", "/schedule/time_zone")
    plan.refresh_from_db()
    assert plan.state == "paused"
    with pytest.raises(DomainError, match="Not an IANA time zone"):
        preview.plan_preview(plan=plan, tier="standard", count=3)
    # but can be given another zone
    services.plan_update(
        owner_id=person.pk, plan_id=plan.pk, version=plan.version, schedule={"time_zone": "Europe/Berlin"}
    )
    assert services.plan_resume(owner_id=person.pk, plan_id=plan.pk).state == "active"


def test_a_value_that_no_plan_has_is_a_mistake_of_the_caller(platform: Platform) -> None:
    plan = platform.plan(platform.person())

    with pytest.raises(TypeError, match="state"):
        services.plan_update(owner_id=plan.owner_id, plan_id=plan.pk, version=1, state="completed")
