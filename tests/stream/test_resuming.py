"""No gap and no repeat: whoever comes back with the last id that they have, at whichever process, goes on after it."""

import random
import threading
import time

import pytest
from django.db import connection

from tests.stream.support import Person, Process, Watcher, person_make, raw_open, until

pytestmark = pytest.mark.django_db(transaction=True)


def ids(watcher: Watcher) -> list[int | None]:
    return [one.id for one in watcher.seen]


def test_resumes_after_the_header_or_the_parameter(stream: Process) -> None:
    person = person_make()
    person.tell(9)

    by_header = stream.watcher(person, last_id=6).open()
    by_parameter = stream.watcher(person).open(query="?last_event_id=7")
    from_the_start = stream.watcher(person, last_id=0).open()

    assert [one.id for one in by_header.events(3)] == [7, 8, 9]
    assert [one.id for one in by_parameter.events(2)] == [8, 9]
    assert [one.id for one in from_the_start.events(9)] == list(range(1, 10))
    for one in (by_header, by_parameter, from_the_start):
        one.close()


def test_the_header_is_newer_than_the_parameter_of_the_first_address(stream: Process) -> None:
    person = person_make()
    person.tell(9)

    watcher = stream.watcher(person, last_id=8).open(query="?last_event_id=2")

    assert watcher.events(1)[0].id == 9
    watcher.close()


def test_a_stream_lost_before_its_first_event_resumes_where_it_began(stream: Process) -> None:
    person = person_make()
    person.tell(4)
    watcher = stream.watcher(person).open()
    assert watcher.last_id == 4

    # when events come while nobody listens
    watcher.close()
    person.tell(2)

    # then they are there on return
    assert [one.id for one in watcher.open().events(2)] == [5, 6]
    watcher.close()


def test_more_than_a_page_comes_whole(stream: Process) -> None:
    person = person_make()
    person.tell(1_234)
    watcher = stream.watcher(person, last_id=0).open()

    assert [one.id for one in watcher.events(1_234)] == list(range(1, 1_235))
    watcher.close()


def head(person: Person) -> int:
    """How many events of this person are written."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sequence FROM events_eventhead WHERE subject_id = %s", [person.user.pk])
        row = cursor.fetchone()
    return int(row[0]) if row else 0


class Writers:
    """Threads that write a person's events without a pause, in commits of different sizes, some rolled back."""

    def __init__(self, person: Person, *, threads: int, commits: int) -> None:
        self._person, self._commits = person, commits
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _write(self, number: int) -> None:
        dice = random.Random(number)
        try:
            for _ in range(self._commits):
                self._person.tell(dice.choice([1, 1, 2, 7, 60]), rolled_back=dice.random() < 0.2)
                time.sleep(dice.random() * 0.02)
        finally:
            connection.close()

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.mark.e2e
def test_killed_processes_and_lost_connections_lose_and_repeat_nothing(
    doomed: Process, deaf: Process
) -> None:
    """Writers write all the while; the reader is cut off at random places, then its process is killed under it."""
    person = person_make()
    watcher = doomed.watcher(person).open()
    dice = random.Random(7)
    writers = Writers(person, threads=3, commits=60)

    # given connections that are cut in the middle of whatever is under way, now here, now there
    while writers.busy:
        # No more than there are: these may have been the last.
        watcher.events(min(dice.randrange(1, 40), head(person) - int(watcher.last_id or 0)))
        watcher.port = dice.choice([doomed, deaf]).port
        watcher.open()
    writers.wait()

    # when the process is killed with events on their way
    more = Writers(person, threads=2, commits=25)
    watcher.port = doomed.port
    watcher.open().events(20)
    doomed.child.kill()
    watcher.rest()
    watcher.port = deaf.port
    watcher.open()
    more.wait()

    # then what was read in all is the person's log
    written = head(person)
    watcher.events(written - int(watcher.last_id or 0))
    assert written > 500
    assert ids(watcher) == list(range(1, written + 1))
    watcher.close()


def test_a_process_that_is_told_to_stop_sends_its_clients_elsewhere(doomed: Process, deaf: Process) -> None:
    people = [person_make() for _ in range(5)]
    watchers = [doomed.watcher(one).open() for one in people]
    for one in people:
        one.tell()
    for watcher in watchers:
        watcher.events(1)

    # when it is told to stop, and events are written meanwhile
    doomed.child.signal(doomed.child.stop_signal)
    for one in people:
        one.tell(3)

    # then each is told so, and the process ends by itself, soon
    for watcher in watchers:
        last = [one for one in watcher.rest() if one.event == "stream.closed"]
        assert [one.data for one in last] == [{"reason": "restart"}]
        assert last[0].id is None
    assert doomed.child.wait(seconds=8) == 0

    # and each goes on elsewhere
    for watcher in watchers:
        watcher.port = deaf.port
        watcher.open().events(4 - len(watcher.seen))
        assert ids(watcher) == [1, 2, 3, 4]
        watcher.close()


def test_a_reader_that_does_not_read_is_dropped_and_resumes(stream: Process) -> None:
    # given far more events than the connection's buffers hold, and one who reads none of them
    person = person_make()
    count, text = 1_500, "x" * 8_000
    for _ in range(5):
        person.tell(count // 5, text=text)
    before = stream.proportional_kilobytes()
    link = raw_open(stream.port, person.key + "\r\nLast-Event-ID: 0", receive_bytes=4_096)

    # when patience ends
    until(lambda: '"reason": "slow"' in stream.said(), what="dropped")

    # then a page was held for them, and a reader beside them was not disturbed
    assert stream.proportional_kilobytes() - before < 30_000
    watcher = stream.watcher(person, last_id=0).open()
    assert [one.id for one in watcher.events(count)] == list(range(1, count + 1))
    watcher.close()
    link.close()
