"""The work-item engine against a real PostgreSQL: claim, lease, attempts, backoff, poison, dead letters."""

import logging
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from apps.accounts.models import User
from apps.core import bulk, clock, doorbell, work
from apps.core.errors import Retryable, Terminal
from apps.core.models import WorkProbe
from apps.core.work import Claim, Work
from tests.support.races import somebody_waits, until

pytestmark = pytest.mark.django_db(transaction=True)

# Not written where it is used: a traceback shows the line.
EMAIL = "ann.person@example.org"


def close(rows: list[WorkProbe]) -> None:
    bulk.update(
        "core_workprobe",
        [row.pk for row in rows],
        {},
        constants={"state": "closed"},
        also="passes = passes + 1",
    )


def kind(advance: Callable[[list[WorkProbe]], None] = close, **options: object) -> Work[WorkProbe]:
    return Work("core.probe", WorkProbe, ("open",), advance=advance, **options)  # type: ignore[arg-type]


def make(count: int) -> list[uuid.UUID]:
    probes = WorkProbe.objects.bulk_create([WorkProbe() for _ in range(count)])
    return sorted(probe.pk for probe in probes)


def expire_leases() -> None:
    """What time does to a dead worker's rows, on PostgreSQL's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE core_workprobe SET leased_until = clock_timestamp() - interval '1 s'"
            " WHERE leased_until IS NOT NULL"
        )


def test_drain_takes_every_due_row_one_step_and_no_other() -> None:
    due = make(7)
    WorkProbe.objects.create(run_after=clock.now() + timedelta(hours=1))

    handled = work.drain(kind(chunk=3))

    assert handled == 7
    closed = WorkProbe.objects.filter(state="closed").order_by("pk")
    assert [(row.pk, row.passes, row.attempts, row.lease_token) for row in closed] == [
        (pk, 1, 0, None) for pk in due
    ]
    assert WorkProbe.objects.filter(state="open").count() == 1


def test_a_full_chunk_calls_for_others_before_the_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    make(3)
    heard: list[str] = []
    monkeypatch.setattr(doorbell, "_ringer", lambda name, _: heard.append(name))
    heard_when_working: list[int] = []

    def note(rows: list[WorkProbe]) -> None:
        heard_when_working.append(len(heard))
        close(rows)

    handled = [work.drain_chunk(kind(note, chunk=2)) for _ in range(3)]

    assert handled == [2, 1, 0]
    assert (heard, heard_when_working) == (["core.probe"], [1, 1])


def test_suspects_follow_each_other_though_each_is_taken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    make(3)
    for _ in range(2):
        work.claim_due(kind())
        expire_leases()
    heard: list[str] = []
    monkeypatch.setattr(doorbell, "_ringer", lambda name, _: heard.append(name))

    handled = [work.drain_chunk(kind()) for _ in range(4)]

    assert (handled, heard) == ([1, 1, 1, 0], ["core.probe"] * 3)


def test_an_attempt_is_counted_before_the_work_begins() -> None:
    make(1)

    claim = work.claim_due(kind())

    row = WorkProbe.objects.get()
    assert (row.attempts, row.lease_token, claim.ids) == (1, claim.token, [row.pk])
    assert row.leased_until is not None


def test_without_counting_before_the_work_a_row_that_kills_is_claimed_for_ever() -> None:
    """Who counts after the work never counts what kills the worker; see the test of lethal rows for our way."""
    make(1)
    lethal = kind(max_attempts=3)

    for _ in range(10):
        claim = work.claim_due(lethal)
        assert len(claim.ids) == 1
        WorkProbe.objects.update(attempts=0)  # the count would follow the work, and the worker is dead
        expire_leases()

    assert WorkProbe.objects.get().buried_at is None


def test_leased_rows_are_nobody_elses_until_the_lease_runs_out() -> None:
    make(2)
    first = work.claim_due(kind(chunk=2))

    assert work.claim_due(kind()).ids == []
    expire_leases()
    second = work.claim_due(kind())

    assert second.ids == first.ids
    assert set(WorkProbe.objects.values_list("attempts", flat=True)) == {2}


@pytest.mark.parametrize(("proven", "passes"), [(False, 2), (True, 1)])
def test_without_proving_the_lease_a_stalled_worker_makes_the_step_again(proven: bool, passes: int) -> None:
    make(1)
    slow = work.claim_due(kind())
    expire_leases()
    work.drain(kind())

    with transaction.atomic():
        if proven:
            with slow.locked() as rows:
                close(rows)
        else:
            close(list(WorkProbe.objects.select_for_update().filter(pk__in=slow.ids)))

    assert WorkProbe.objects.get().passes == passes


def test_a_worker_that_lost_its_lease_no_longer_moves_the_row() -> None:
    make(1)
    slow = work.claim_due(kind())
    expire_leases()
    work.claim_due(kind())

    with slow.locked() as rows:
        assert rows == []


def test_a_lease_that_ran_out_while_its_transaction_works_is_not_stolen() -> None:
    make(1)
    claim = work.claim_due(kind())
    expire_leases()
    stolen: list[int] = []

    with claim.locked() as rows:

        def steal() -> None:
            stolen.append(len(work.claim_due(kind()).ids))
            connection.close()

        thief = threading.Thread(target=steal)
        thief.start()
        thief.join()
        close(rows)
        claim.step([row.pk for row in rows])

    assert stolen == [0]
    assert WorkProbe.objects.get().passes == 1


def test_retryable_failure_waits_longer_each_time_and_is_buried_after_the_last_attempt() -> None:
    make(1)

    def refuse(rows: list[WorkProbe]) -> None:
        raise Retryable("node away")

    failing = kind(refuse, max_attempts=3, backoff_seconds=10.0)
    for longest in (10, 20):
        before = clock.now()
        work.drain(failing)
        row = WorkProbe.objects.get()
        assert before + timedelta(seconds=longest / 2) <= row.run_after
        assert row.run_after <= clock.now() + timedelta(seconds=longest)
        assert (row.last_error, row.lease_token, row.buried_at) == ("node away", None, None)
        WorkProbe.objects.update(run_after=clock.now())
    work.drain(failing)

    row = WorkProbe.objects.get()
    assert (row.state, row.attempts, row.last_error) == ("open", 3, "node away")
    assert row.buried_at is not None
    assert work.due_names() == []


def test_business_time_is_kept_when_a_step_fails_and_when_it_is_dug_up() -> None:
    """A plan's `run_after` is its next occurrence: waiting for another try must not move it."""
    make(1)
    due_at = WorkProbe.objects.get().run_after

    def refuse(rows: list[WorkProbe]) -> None:
        raise Retryable("database busy", after_seconds=60)

    keeping = kind(refuse, keeps_run_after=True, max_attempts=2)
    work.drain(keeping)
    waiting = WorkProbe.objects.get()
    assert (waiting.run_after, waiting.last_error, waiting.lease_token) == (due_at, "database busy", None)
    assert work.claim_due(keeping).ids == []
    expire_leases()
    work.drain(keeping)
    assert WorkProbe.objects.get().buried_at is not None

    assert work.retry(keeping) == 1

    dug_up = WorkProbe.objects.get()
    assert (dug_up.run_after, dug_up.buried_at, dug_up.attempts) == (due_at, None, 0)
    assert len(work.claim_due(keeping).ids) == 1


def test_a_row_that_was_moved_on_between_claim_and_lock_is_left_alone() -> None:
    ids = make(3)
    probe = kind()
    claim = work.claim_due(probe)
    WorkProbe.objects.filter(pk=ids[1]).update(state="cancelled")

    work._work_on(claim)

    found = list(WorkProbe.objects.order_by("pk").values_list("state", "passes", "lease_token"))
    assert found == [("closed", 1, None), ("cancelled", 0, None), ("closed", 1, None)]


def test_a_violated_constraint_leaves_no_personal_data_on_the_row_or_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (pk, other) = make(2)
    User.objects.create(email=EMAIL)

    def twice(rows: list[WorkProbe]) -> None:
        if pk in {row.pk for row in rows}:
            User.objects.create(email=EMAIL)
        close(rows)

    with caplog.at_level(logging.DEBUG):
        work.drain(kind(twice))

    said = WorkProbe.objects.get(pk=pk).last_error
    assert said.startswith("IntegrityError: duplicate key value violates unique constraint ")
    assert said.endswith(" (SQLSTATE 23505)")
    assert WorkProbe.objects.get(pk=other).state == "closed"
    formatter = logging.Formatter()
    written = "\n".join(f"{formatter.format(record)} {record.__dict__}" for record in caplog.records)
    assert written.count("SQLSTATE 23505") > 2
    assert "ann.person" not in written


def test_terminal_failure_buries_at_once() -> None:
    make(1)

    def refuse(rows: list[WorkProbe]) -> None:
        raise Terminal("selector not allowed")

    work.drain(kind(refuse))

    row = WorkProbe.objects.get()
    assert (row.attempts, row.last_error, row.buried_at is not None) == (1, "selector not allowed", True)


def test_one_bad_row_does_not_keep_its_chunk_from_closing() -> None:
    ids = make(50)
    bad = ids[17]

    def choke(rows: list[WorkProbe]) -> None:
        close(rows)
        if bad in {row.pk for row in rows}:
            raise ValueError("cannot be parsed")

    work.drain(kind(choke, chunk=50))

    left = WorkProbe.objects.get(state="open")
    assert (left.pk, left.passes, left.attempts) == (bad, 0, 1)
    assert left.last_error == "ValueError: cannot be parsed"
    assert list(WorkProbe.objects.exclude(pk=bad).values_list("state", "passes").distinct()) == [
        ("closed", 1)
    ]


def test_rows_that_lose_their_worker_twice_are_claimed_alone_and_buried_when_their_attempts_are_spent() -> (
    None
):
    make(5)
    lethal = kind(chunk=5, max_attempts=4)
    for _ in range(2):
        assert len(work.claim_due(lethal).ids) == 5
        expire_leases()

    sizes = []
    for _ in range(10):
        sizes.append(len(work.claim_due(lethal).ids))
        expire_leases()

    assert sizes == [1] * 10
    assert work.claim_due(lethal).ids == []
    rows = WorkProbe.objects.all()
    assert {(row.state, row.attempts, row.buried_at is not None) for row in rows} == {("open", 4, True)}
    assert {row.last_error for row in rows} == {"the worker was lost each time it worked on this"}


def test_waiting_is_not_an_attempt() -> None:
    make(1)

    def wait(claim: Claim[WorkProbe]) -> None:
        with claim.locked():
            claim.wait(claim.ids, seconds=30)

    before = clock.now()
    work.drain(Work("core.probe", WorkProbe, ("open",), perform=wait, max_attempts=1))

    row = WorkProbe.objects.get()
    assert (row.attempts, row.buried_at, row.lease_token) == (0, None, None)
    assert (row.run_after - before).total_seconds() == pytest.approx(30, abs=5)


def _race(count: int, take: Callable[[], list[uuid.UUID]]) -> list[uuid.UUID]:
    """What `count` threads took together, all starting at once."""
    barrier = threading.Barrier(count)
    taken: list[uuid.UUID] = []

    def run() -> None:
        try:
            barrier.wait()
            taken.extend(take())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def test_without_the_row_lock_two_workers_take_the_same_row() -> None:
    """The race that SKIP LOCKED closes: look first, take later."""
    make(20)
    looked = threading.Barrier(4)

    def unguarded() -> list[uuid.UUID]:
        found = list(WorkProbe.objects.filter(state="open").values_list("pk", flat=True))
        looked.wait()
        WorkProbe.objects.filter(pk__in=found).update(attempts=1)
        return found

    assert len(_race(4, unguarded)) == 80


def test_with_the_row_lock_each_row_is_taken_once() -> None:
    ids = make(400)

    def claims() -> list[uuid.UUID]:
        taken: list[uuid.UUID] = []
        while found := work.claim_due(kind(chunk=7)).ids:
            taken.extend(found)
        return taken

    assert sorted(_race(4, claims)) == ids


@pytest.mark.parametrize(("alone", "met"), [(False, 3), (True, 0)])
def test_a_kind_that_claims_alone_waits_for_a_claim_on_its_way(alone: bool, met: int) -> None:
    """Without that, two that claim at once share what is due, and make two where one would do."""
    make(6)
    found: list[int] = []

    def claim() -> None:
        found.append(len(work.claim_due(kind(claims_alone=alone, chunk=3)).ids))
        connection.close()

    second = threading.Thread(target=claim)
    with transaction.atomic():
        assert len(work.claim_due(kind(claims_alone=alone, chunk=3)).ids) == 3
        second.start()
        until(lambda: somebody_waits() if alone else not second.is_alive(), of=second)
        assert sum(found) == met
    second.join()

    assert found == [3]


def test_claiming_costs_the_same_number_of_statements_whatever_the_chunk(
    django_assert_num_queries: Callable[[int], object],
) -> None:
    make(300)
    work.claim_due(kind(chunk=1))
    with django_assert_num_queries(3):  # type: ignore[attr-defined]  # BEGIN, UPDATE, COMMIT
        work.claim_due(kind(chunk=250))


def test_dead_letters_are_listed_and_go_on_where_they_stopped() -> None:
    ids = make(2)

    def refuse(rows: list[WorkProbe]) -> None:
        raise Terminal("no")

    work.drain(kind(refuse))
    out = StringIO()
    call_command("deadletters", "list", "--kind", "core.probe", stdout=out)
    assert "2 dead letters" in out.getvalue()
    assert str(ids[0]) in out.getvalue()

    call_command("deadletters", "retry", "core.probe", str(ids[0]), stdout=StringIO())
    work.drain(kind())

    assert list(WorkProbe.objects.order_by("pk").values_list("state", "buried_at")) == [
        ("closed", None),
        ("open", WorkProbe.objects.get(pk=ids[1]).buried_at),
    ]


def test_retrying_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(CommandError, match=r"unknown kind 'x'; one of: .*core\.probe"):
        call_command("deadletters", "retry", "x")


def test_depths_count_due_leased_and_buried() -> None:
    make(5)
    work.claim_due(kind(chunk=2))
    with transaction.atomic():
        WorkProbe.objects.filter(lease_token__isnull=True)[:1].get()
        buried = WorkProbe.objects.filter(lease_token__isnull=True).first()
        assert buried is not None
        WorkProbe.objects.filter(pk=buried.pk).update(buried_at=clock.now())

    assert work.depths()["core.probe"] == {"due": 2, "leased": 2, "buried": 1}
    assert work.due_names() == ["core.probe"]


def test_a_whole_kind_gets_its_chunk_at_once_and_poison_stands_alone() -> None:
    due = make(8)
    sizes: list[int] = []

    def perform(claim: Claim[WorkProbe]) -> None:
        sizes.append(len(claim.ids))
        with claim.locked() as rows:
            close(rows)
            claim.step([row.pk for row in rows])
            if due[5] in claim.ids:
                raise ValueError("poison")

    whole: Work[WorkProbe] = Work("core.probe", WorkProbe, ("open",), perform=perform, whole=True, chunk=8)

    assert work.drain(whole, budget_seconds=0) == 8

    assert sizes == [8, 4, 4, 2, 1, 1, 2]
    assert WorkProbe.objects.filter(state="closed").count() == 7
    left = WorkProbe.objects.get(state="open")
    assert (left.pk, left.attempts, left.last_error) == (due[5], 1, "ValueError: poison")
