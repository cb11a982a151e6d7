"""Two beats: one leads, the other stands by and takes over when the leader dies. On the real database."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import redis
from celery import Celery
from django.conf import settings
from django.db import connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from apps.core.models import WorkProbe
from tests.workers.test_lost_rings import wait_until
from workers.beat import SingleScheduler

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nobody_leads(transactional_db: None) -> None:
    """A session that the test before has closed holds its lock until its backend is gone."""

    def free() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory')")
            return bool(cursor.fetchone()[0])

    assert wait_until(free)


@pytest.fixture
def beats() -> Iterator[list[SingleScheduler]]:
    app = Celery("test", set_as_current=False)
    made = [SingleScheduler(app=app) for _ in range(2)]
    yield made
    for beat in made:
        if beat._session is not None:
            beat._session.close()


def test_one_leads_and_the_other_takes_over_when_its_session_is_gone(beats: list[SingleScheduler]) -> None:
    first, second = beats
    assert [first._leads(), second._leads(), first._leads(), second._leads()] == [True, False, True, False]

    assert first._session is not None
    pid = first._session.info.backend_pid
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    # The dead leader notices at its next tick; whoever asks first leads from then on.
    assert second._leads() is True
    assert first._leads() is False


def test_a_session_that_dies_before_it_has_the_lock_ends_no_beat(
    beats: list[SingleScheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL restarts between a beat's connection and its question: it asks again at its next tick."""
    connect = psycopg.connect

    def connect_and_lose(**params: Any) -> psycopg.Connection[Any]:
        session = connect(**params)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [session.info.backend_pid])
        return session

    with monkeypatch.context() as patched:
        patched.setattr(psycopg, "connect", connect_and_lose)
        assert beats[0].tick() == 1.0

    assert beats[0]._leads() is True


def test_only_the_leader_publishes_what_is_due() -> None:
    every = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(name="look", task="test.look", interval=every, queue="test-beat")
    broker = redis.Redis.from_url(settings.REDIS_URL)
    broker.delete("test-beat")
    app = Celery("test", broker=settings.REDIS_URL, set_as_current=False)
    first, second = (SingleScheduler(app=app) for _ in range(2))
    assert first._leads()

    waits = [second.tick() for _ in range(3)]
    standby = broker.llen("test-beat")
    for _ in range(50):
        first.tick()
        if broker.llen("test-beat"):
            break
        threading.Event().wait(0.1)
    leader = broker.llen("test-beat")

    assert (waits, standby, leader) == ([1.0, 1.0, 1.0], 0, 1)
    first.close()
    broker.delete("test-beat")
    broker.close()


def test_without_the_lock_both_would_lead(beats: list[SingleScheduler]) -> None:
    """The race that the lock closes: asking “does anybody lead?” and then leading."""
    params = connection.get_connection_params()
    leaders: list[int] = []
    all_asked = threading.Barrier(2)

    def lead_unlocked(me: int) -> None:
        with psycopg.connect(**params, autocommit=True) as session:
            row = session.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
            all_asked.wait()
            if row == (0,):
                leaders.append(me)

    threads = [threading.Thread(target=lead_unlocked, args=(me,)) for me in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(leaders) == [0, 1]


def test_the_leader_rings_once_for_what_has_just_become_due() -> None:
    broker = redis.Redis.from_url(settings.REDIS_URL)
    broker.delete("default")
    app = Celery("test", broker=settings.REDIS_URL, set_as_current=False)
    leader = SingleScheduler(app=app)

    def probes_rung() -> int:
        raw = broker.lrange("default", 0, -1)
        return [json.loads(one)["headers"]["task"] for one in raw].count("core.probe")

    rung, waits = [], []
    for moment in ("nothing", "due", "still due", "done", "due again"):
        if moment.startswith("due"):
            WorkProbe.objects.create()
        elif moment == "done":
            WorkProbe.objects.all().delete()
        waits.append(leader.tick())
        rung.append(probes_rung())

    assert rung == [0, 1, 1, 1, 2]
    # However rarely anything is scheduled, it looks again soon.
    assert max(waits) <= 0.25
    leader.close()
    broker.delete("default")
    broker.close()


def test_a_database_that_is_away_ends_no_look() -> None:
    leader = SingleScheduler(app=Celery("test", broker=settings.REDIS_URL, set_as_current=False))
    assert leader._leads()
    connection.ensure_connection()
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])

    leader._ring_newly_due()
    leader._ring_newly_due()

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    leader.close()
