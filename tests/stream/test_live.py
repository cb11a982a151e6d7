"""What a person who listens is told: everything, once, in order, at once."""

import time
from statistics import median

import pytest
from django.test import Client

from tests.stream.support import Process, person_make

pytestmark = pytest.mark.django_db(transaction=True)


def test_events_arrive_as_the_list_gives_them(stream: Process) -> None:
    person = person_make()
    person.tell()
    watcher = stream.watcher(person).open()

    person.tell(2, text="line\nbreak, ünï, \u2028")
    person.tell(topic="plan.paused")

    events = watcher.events(3)
    assert [(one.id, one.event) for one in events] == [
        (2, "execution.settled"), (3, "execution.settled"), (4, "plan.paused"),
    ]  # fmt: skip
    listed = Client().get("/api/v1/events", {"after": "1"}, headers={"Authorization": f"Bearer {person.key}"})
    assert [one.data for one in events] == listed.json()["data"]
    assert events[0].data["payload"] == {"n": 0, "text": "line\nbreak, ünï, \u2028"}
    assert events[0].data["object"] == {"type": "slot", "id": str(person.user.pk)}
    watcher.close()


def test_redis_wakes_the_stream(stream: Process) -> None:
    person = person_make()
    watcher = stream.watcher(person).open()
    waits = []
    for _ in range(7):
        told = time.monotonic()
        person.tell()
        watcher.events(1)
        waits.append(time.monotonic() - told)
        time.sleep(0.15)

    # The look at the database alone would take half a second on average.
    assert median(waits) < 0.2, waits
    watcher.close()
