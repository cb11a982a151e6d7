"""What a person who listens is told: everything, once, in order, at once."""

import json
import time
from statistics import median

import pytest
from django.db import connection
from django.test import Client

from apps.accounts.models import ApiKey
from apps.accounts.services import api_key_revoke
from apps.stream.api.views import EXAMPLE
from apps.stream.metrics import streams_open
from apps.withdrawals.services import destination_add
from config.roles import files_allow
from tests.core.api.operations import operations
from tests.core.api.test_examples import plain
from tests.stream.support import Process, keys_make, person_make, raw_open, read_until, until

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


def test_the_document_shows_what_a_stream_really_says(stream: Process) -> None:
    person = person_make()
    watcher = stream.watcher(person).open()
    destination_add(
        user_id=person.user.pk, address="0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", label="Cold wallet"
    )
    (event,) = watcher.events(1)
    api_key_revoke(user_id=person.user.pk, api_key_id=ApiKey.objects.get(user=person.user).pk)
    (end,) = watcher.rest()
    watcher.close()

    blocks = [block_read(text) for text in EXAMPLE.split("\n\n") if text]

    assert [list(fields) for fields in blocks] == [
        ["retry", "id"],
        ["id", "event", "data"],
        ["retry", "event", "data"],
    ]
    assert blocks[0]["id"] == "0"
    assert (blocks[1]["id"], blocks[1]["event"]) == (str(event.id), event.event)
    assert plain(json.loads(blocks[1]["data"])) == plain(event.data)
    assert (blocks[2]["event"], json.loads(blocks[2]["data"])) == (end.event, end.data)
    (read,) = (one for one in operations() if one.name == "stream_read")
    shown = read.document["responses"]["200"]["content"]["text/event-stream"]["examples"]
    assert [one["value"] for one in shown.values()] == [EXAMPLE]


def block_read(text: str) -> dict[str, str]:
    """The fields of one block."""
    return dict(line.split(": ", 1) for line in text.split("\n"))


def test_redis_wakes_the_stream(stream: Process) -> None:
    person = person_make()
    watcher = stream.watcher(person).open()
    waits = []
    for _ in range(7):
        told = time.monotonic()
        person.tell()
        watcher.events(1)
        waits.append(time.monotonic() - told)

    # The look at the database alone would take a second each time: one has just been when the next event is told.
    assert median(waits) < 0.2, waits
    watcher.close()


def test_without_redis_events_come_by_the_look_at_the_database(deaf: Process) -> None:
    person = person_make()
    opened = time.monotonic()
    watcher = deaf.watcher(person).open()
    person.tell(3)
    waited = time.monotonic() - opened

    assert [one.id for one in watcher.events(3)] == [1, 2, 3]
    assert watcher.quiet_seconds < waited + 4
    watcher.close()


def test_a_quiet_stream_beats_and_names_the_headers_that_proxies_heed(stream: Process) -> None:
    person = person_make()
    watcher = stream.watcher(person)
    # From before the first word: whoever reads it late finds the beats there already.
    asked = time.monotonic()
    status, headers, _ = watcher.ask()
    watcher.block()
    watcher.beats(2)
    assert time.monotonic() - asked > 0.9  # one each STREAM_HEARTBEAT_SECONDS
    person.tell()
    watcher.events(1)

    assert status == 200
    assert headers["cache-control"] == "no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    assert headers["x-request-id"]
    watcher.close()


def test_nobody_hears_of_another_person(stream: Process) -> None:
    one, other = person_make(), person_make()
    watcher = stream.watcher(one).open()

    other.tell(5)
    one.tell()

    (event,) = watcher.events(1)
    assert event.id == 1
    watcher.close()


def test_all_streams_share_few_database_connections(stream: Process) -> None:
    people = [person_make() for _ in range(30)]
    watchers = [stream.watcher(one).open() for one in people]
    for one in people:
        one.tell()
    for watcher in watchers:
        watcher.events(1)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stream'")
        assert cursor.fetchone()[0] <= 3
    for watcher in watchers:
        watcher.close()


def test_a_lost_database_connection_costs_a_moment(stream: Process) -> None:
    person = person_make()
    watcher = stream.watcher(person).open()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stream'"
        )

    person.tell(2)

    assert [one.id for one in watcher.events(2)] == [1, 2]
    watcher.close()
    # and whoever comes then is let in
    stream.watcher(person).open().close()


def test_the_gauge_counts_what_is_open(stream: Process) -> None:
    def gauge() -> float:
        return dict(streams_open())[()]

    watchers = [stream.watcher(person_make()).open() for _ in range(4)]
    # The test before has emptied the tables: the process says anew that it lives.
    until(lambda: gauge() == 4, what="the process is noted, with its streams")

    for watcher in watchers:
        watcher.close()
    until(lambda: gauge() == 0, what="closed streams are forgotten")


def test_a_thousand_idle_streams_of_a_thousand_people_take_less_than_300_megabytes(stream: Process) -> None:
    files_allow(2_000)
    before = stream.proportional_kilobytes()
    links = []
    for key in keys_make(1_000):
        links.append(raw_open(stream.port, key))
        # Not all at once: in the kernel's queue of new connections nobody is a stream yet.
        if len(links) % 50 == 0:
            for link in links[-50:]:
                read_until(link, b"retry: ")

    # All of them are there, and heard of in turn, while nothing happens to anybody.
    for link in links:
        read_until(link, b"\r\n:\n\n")
    until(lambda: dict(streams_open())[()] == 1_000, what="all are counted")
    held = stream.proportional_kilobytes()

    print(f"{held / 1_000:.0f} MB, of which {(held - before) / 1_000:.0f} MB by the streams")
    assert held < 300_000
    for link in links:
        link.close()
