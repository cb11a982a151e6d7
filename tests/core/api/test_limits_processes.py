"""64 clients that never pause, two real web processes that know of each other only through Redis and PostgreSQL."""

import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pytest_django import DjangoDbBlocker

from apps.sandbox.runtime.valkey import Valkey
from tests.core.api.support import user_with_key
from tests.support.web import webs_open

CLIENTS = 64
SECONDS = 2.0
ME = "/api/v1/me"
SIGN_IN = "/api/v1/auth/sign-in-probe"

# django_db only so that the tests' database is there to be copied.
pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Two:
    """Two servers, a key for them, and their Redis."""

    ports: tuple[int, int]
    keys: tuple[str, str]
    valkey: Valkey


@pytest.fixture(scope="module")
def two(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Two]:
    environment = {
        "DJANGO_SETTINGS_MODULE": "config.settings.local",
        "WEB_THREADS": "8",
        "TRUSTED_PROXY_HOPS": "1",
    }
    with django_db_blocker.unblock(), webs_open(tmp_path_factory.mktemp("two"), **environment) as webs:
        ann, bob = (user_with_key(f"{name}@example.org")[1].key for name in ("ann", "bob"))
        yield Two(webs.ports, (ann, bob), webs.valkey)


@dataclass(frozen=True)
class Answer:
    """When the request was sent and the answer there: in between it was counted."""

    sent: float
    came: float
    status: int
    headers: dict[str, str]


def storm(ports: tuple[int, ...], path: str, headers: dict[str, str]) -> list[Answer]:
    """Everything that 64 clients got, the last of what each asked for after `SECONDS`."""
    found: list[Answer] = []
    start = threading.Barrier(CLIENTS)

    def client(port: int) -> None:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        start.wait()
        sent, end = 0.0, time.monotonic() + SECONDS
        while sent < end:
            sent = time.monotonic()
            link.request("GET", path, headers=headers)
            answer = link.getresponse()
            answer.read()
            names = {name.lower(): value for name, value in answer.getheaders()}
            found.append(Answer(sent, time.monotonic(), answer.status, names))
        link.close()

    threads = [
        threading.Thread(target=client, args=(ports[number % len(ports)],)) for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def check(found: list[Answer], *, quota: int, passed: int) -> None:
    """Never more than the quota in a window, and as many again in the next."""
    admitted = [one for one in found if one.status == passed]
    refused = [one for one in found if one.status == 429]
    assert {one.status for one in found} == {passed, 429}
    # Of those that were sent and answered within one second, however late their answers are.
    for first in admitted:
        window = [one for one in admitted if first.sent <= one.sent and one.came < first.sent + 1]
        assert len(window) <= quota, (len(window), len(admitted), len(found))
    # What fits at the start, and after one second.
    assert len(admitted) >= 2 * quota, (len(admitted), len(found))
    assert len(refused) > 5 * len(admitted)
    assert {one.headers["retry-after"] for one in refused} == {"1"}


def test_a_key_gets_ten_a_second_of_both_processes_together(two: Two) -> None:
    mine = storm(two.ports, ME, {"Authorization": f"Bearer {two.keys[0]}"})
    check(mine, quota=10, passed=200)


def test_an_address_gets_five_tries_a_second_whatever_it_claims_to_be(two: Two) -> None:
    found = storm(two.ports, SIGN_IN, {"X-Forwarded-For": "192.0.2.1, 198.51.100.1"})
    check(found, quota=5, passed=404)


def test_a_header_that_is_sent_twice_is_read_to_its_end(two: Two) -> None:
    """A proxy may add a line of its own instead of lengthening the caller's: the last entry is its word."""
    for last in range(9, 99):
        started, statuses = time.monotonic(), []
        for number in range(6):
            link = http.client.HTTPConnection("127.0.0.1", two.ports[1], timeout=20)
            link.putrequest("GET", SIGN_IN)
            link.putheader("X-Forwarded-For", f"192.0.2.{number}")
            link.putheader("X-Forwarded-For", f"198.51.100.{last}")
            link.endheaders()
            statuses.append(link.getresponse().status)
            link.close()
        # Who takes longer than a second for six is not refused, and asks again, as somebody else.
        if time.monotonic() - started < 1:
            break
    assert statuses == [404] * 5 + [429]


def test_without_redis_sign_in_is_held_and_the_rest_goes_on(two: Two) -> None:
    two.valkey.kill()
    try:
        found = storm(two.ports, SIGN_IN, {})
        check(found, quota=5, passed=404)
        mine = storm(two.ports, ME, {"Authorization": f"Bearer {two.keys[1]}"})
        assert {one.status for one in mine} == {200}
        assert len(mine) > 3 * 10 * SECONDS
    finally:
        two.valkey.start()
