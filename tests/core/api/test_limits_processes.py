"""64 clients that never pause, two real web processes that know of each other only through Redis and PostgreSQL."""

import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

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


def storm(
    ports: tuple[int, ...], path: str, headers: dict[str, str]
) -> list[tuple[float, int, dict[str, str]]]:
    """(when it was answered, status, headers) of everything that 64 clients got in `SECONDS`."""
    found: list[tuple[float, int, dict[str, str]]] = []
    start = threading.Barrier(CLIENTS)

    def client(port: int) -> None:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        start.wait()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            link.request("GET", path, headers=headers)
            answer = link.getresponse()
            answer.read()
            found.append((time.monotonic(), answer.status, dict(answer.getheaders())))
        link.close()

    threads = [
        threading.Thread(target=client, args=(ports[number % len(ports)],)) for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def check(found: list[tuple[float, int, dict[str, str]]], *, quota: int, passed: int) -> None:
    """Never more than the quota in a window, and never less while more is asked for."""
    admitted = sorted(at for at, status, _ in found if status == passed)
    refused = [answer for _, status, answer in found if status == 429]
    assert {status for _, status, _ in found} == {passed, 429}
    # Over two seconds: what fits at the start, after one second, and after two when the storm lasts so long.
    assert 2 * quota <= len(admitted) <= 3 * quota, (len(admitted), len(found))
    # Answers are late by some milliseconds, each by others; half a window apart none can be mistaken.
    gaps = [later - earlier for earlier, later in pairwise(admitted)]
    bursts = 1 + sum(gap > 0.5 for gap in gaps)
    assert len(admitted) <= quota * bursts
    assert len(refused) > 5 * len(admitted)
    assert {answer["retry-after"] for answer in map(_lower, refused)} == {"1"}


def _lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_a_key_gets_ten_a_second_of_both_processes_together(two: Two) -> None:
    mine = storm(two.ports, ME, {"Authorization": f"Bearer {two.keys[0]}"})
    check(mine, quota=10, passed=200)


def test_an_address_gets_five_tries_a_second_whatever_it_claims_to_be(two: Two) -> None:
    found = storm(two.ports, SIGN_IN, {"X-Forwarded-For": "192.0.2.1, 198.51.100.1"})
    check(found, quota=5, passed=404)


def test_a_header_that_is_sent_twice_is_read_to_its_end(two: Two) -> None:
    """A proxy may add a line of its own instead of lengthening the caller's: the last entry is its word."""
    for number in range(6):
        link = http.client.HTTPConnection("127.0.0.1", two.ports[1], timeout=20)
        link.putrequest("GET", SIGN_IN)
        link.putheader("X-Forwarded-For", f"192.0.2.{number}")
        link.putheader("X-Forwarded-For", "198.51.100.9")
        link.endheaders()
        status = link.getresponse().status
        link.close()
        assert status == (404 if number < 5 else 429)


def test_without_redis_sign_in_is_held_and_the_rest_goes_on(two: Two) -> None:
    two.valkey.kill()
    try:
        found = storm(two.ports, SIGN_IN, {})
        check(found, quota=5, passed=404)
        mine = storm(two.ports, ME, {"Authorization": f"Bearer {two.keys[1]}"})
        assert {status for _, status, _ in mine} == {200}
        assert len(mine) > 3 * 10 * SECONDS
    finally:
        two.valkey.start()
