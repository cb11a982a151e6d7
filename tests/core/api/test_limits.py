"""How often anybody may ask: to the request, over all credentials and paths, with Redis and without."""

import math
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
import redis
import time_machine
from django.db import connection
from django.test import Client, override_settings
from hypothesis import given
from hypothesis import strategies as st

from apps.accounts.services import api_key_create
from apps.core.api import limits
from apps.core.models import RateWindow
from tests.core.api.support import ApiClient, problem, user_with_key

NOBODY = "redis://127.0.0.1:1/0"
ME = "/api/v1/me"
SIGN_IN = "/api/v1/auth/probe"  # no such path: whoever tries is counted all the same


@pytest.fixture(autouse=True)
def quotas(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Production's, and a hop, so that each test comes from an address of its own. Redis is waited for: it is there."""
    monkeypatch.setattr(limits, "_TIMEOUT_SECONDS", 20)
    limits._script.cache_clear()
    settings.API_LIMITS = {"api": "10/second", "sign_in": "5/second", "keys": "30/minute"}
    settings.TRUSTED_PROXY_HOPS = 1
    yield
    limits._script.cache_clear()
    limits._rests_until = 0.0


@pytest.fixture
def address() -> str:
    """Where nobody has called from before."""
    return str(uuid4())[:4].join(["2001:db8:", f":{uuid4().hex[:4]}::1"])


@pytest.fixture
def still() -> Iterator[Any]:
    """The counted time stands still until it is moved."""
    with time_machine.travel("2027-01-01T00:00:00Z", tick=False) as clock:
        yield clock


@pytest.mark.django_db
def test_ten_in_any_second_and_the_eleventh_is_told_when(still: Any) -> None:
    _, client = user_with_key()
    for left in range(9, -1, -1):
        answer = client.get(ME)
        assert answer.status_code == 200
        assert answer["RateLimit-Policy"] == '"api";q=10;w=1'
        assert answer["RateLimit"] == f'"api";r={left};t=1'

    answer = client.get(ME)

    problem(answer, 429, "throttled", retryable=True)
    assert (answer["Retry-After"], answer["RateLimit"]) == ("1", '"api";r=0;t=1')
    still.shift(0.99)
    assert client.get(ME).status_code == 429
    still.shift(0.02)
    assert client.get(ME).status_code == 200


@hypothesis.settings(
    deadline=None, max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@given(gaps=st.lists(st.integers(0, 40_000), min_size=8, max_size=30))
def test_redis_admits_and_tells_what_a_list_of_instants_would(gaps: list[int]) -> None:
    subject, admitted = f"list:{uuid4()}", list[float]()
    with (
        time_machine.travel("2027-01-01T00:00:00Z", tick=False) as clock,
        override_settings(API_LIMITS={"api": "5/minute"}),
    ):
        for milliseconds in gaps:
            clock.shift(timedelta(milliseconds=milliseconds))
            now = time.time()
            inside = [at for at in admitted if at >= now - 60]
            verdict = limits.hit("api", subject)
            assert verdict.allowed == (len(inside) < 5)
            if verdict.allowed:
                admitted.append(now)
                inside.append(now)
            assert verdict.remaining == 5 - len(inside)
            assert verdict.reset_seconds == min(max(1, math.ceil(min(inside) + 60 - now)), 60)


@pytest.mark.django_db
def test_no_boundary_lets_twice_as_many_pass(still: Any) -> None:
    _, client = user_with_key()
    still.move_to("2027-01-01T00:00:00.900Z")
    assert [client.get(ME).status_code for _ in range(10)] == [200] * 10
    still.move_to("2027-01-01T00:00:01.100Z")
    assert client.get(ME).status_code == 429


@pytest.mark.django_db
def test_each_key_has_its_own_quota_and_a_person_one_for_making_keys(still: Any) -> None:
    user, first = user_with_key()
    second = ApiClient(api_key_create(user_id=user.pk, name="other", scopes=["keys:write", "keys:read"]).key)
    assert [first.get(ME).status_code for _ in range(11)][-2:] == [200, 429]
    assert second.get(ME).status_code == 200

    for number in range(29):
        still.shift(1)
        assert (
            second.post("/api/v1/api-keys", {"name": f"k{number}", "scopes": ["keys:read"]}).status_code
            == 201
        )
    still.shift(1)
    answer = second.post("/api/v1/api-keys", {"name": "30", "scopes": ["keys:read"]})
    assert answer["RateLimit-Policy"] == '"api";q=10;w=1, "keys";q=30;w=60'
    assert answer["RateLimit"].endswith('"keys";r=0;t=31')
    still.shift(1)
    for client in (first, second):
        answer = client.post("/api/v1/api-keys", {"name": "31", "scopes": ["keys:read"]})
        problem(answer, 429, "throttled", retryable=True)
        assert answer["Retry-After"] == "30"
        assert client.get(ME).status_code == 200


@pytest.mark.django_db
def test_refused_requests_change_nothing(settings: Any) -> None:
    settings.API_LIMITS = {**settings.API_LIMITS, "api": "10/minute"}
    user, client = user_with_key()
    for _ in range(10):
        client.get(ME)
    problem(
        client.post("/api/v1/api-keys", {"name": "a", "scopes": ["keys:read"]}),
        429,
        "throttled",
        retryable=True,
    )
    assert user.api_keys.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("authorization", ["", "Bearer trn_nobody", "Basic YTpi"])
def test_who_shows_no_key_is_counted_by_address(authorization: str, address: str, settings: Any) -> None:
    settings.API_LIMITS = {**settings.API_LIMITS, "api": "10/minute"}
    client = ApiClient()
    found = [client.get(ME, authorization=authorization, x_forwarded_for=address) for _ in range(11)]
    assert [answer.status_code for answer in found] == [401] * 10 + [429]
    # Whatever stands before the proxy's own entry is the caller's invention.
    again = client.get(ME, authorization=authorization, x_forwarded_for=f"1.2.3.4, {address}")
    assert again.status_code == 429
    neighbour = address.removesuffix("1") + "abcd"
    assert client.get(ME, authorization=authorization, x_forwarded_for=neighbour).status_code == 429
    assert client.get(ME, authorization=authorization, x_forwarded_for="198.51.100.77").status_code == 401
    # A person behind the same address is not counted with it.
    _, person = user_with_key()
    assert person.get(ME, x_forwarded_for=address).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/v1/platform/reserves", "/api/v1/schema", "/api/v1/docs"])
def test_public_answers_are_counted_by_address(path: str, address: str, settings: Any) -> None:
    # A day: the document takes its time.
    settings.API_LIMITS = {**settings.API_LIMITS, "api": "10/day"}
    found = [ApiClient().get(path, x_forwarded_for=address).status_code for _ in range(11)]
    assert found == [200] * 10 + [429]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/v1/health", "/api/v1/health/ready"])
def test_probes_of_the_process_are_never_refused(path: str, address: str) -> None:
    found = {ApiClient().get(path, x_forwarded_for=address).status_code for _ in range(30)}
    assert found == {200}


@pytest.mark.django_db
@pytest.mark.parametrize("path", [SIGN_IN, "/admin/login/", "/admin/login/?next=/admin/"])
@pytest.mark.parametrize("url", [None, NOBODY])
def test_five_tries_from_one_address_with_redis_and_without(
    path: str, url: str | None, address: str, settings: Any
) -> None:
    if url:
        settings.REDIS_URL = url
    # A minute: five passwords take Argon2 about a second.
    settings.API_LIMITS = {**settings.API_LIMITS, "sign_in": "5/minute"}
    client = Client(headers={"X-Forwarded-For": address})
    # Another person each time: one person's wrong passwords have a lock of their own.
    found = [client.post(path, {"username": f"a{n}@example.org", "password": "b"}) for n in range(6)]
    assert 429 not in [answer.status_code for answer in found[:5]]
    problem(found[5], 429, "throttled", retryable=True)
    assert 0 < int(found[5]["Retry-After"]) <= 60
    assert found[5]["RateLimit-Policy"] == '"sign_in";q=5;w=60'
    assert found[4]["RateLimit"].startswith('"sign_in";r=0;t=')
    other = Client(headers={"X-Forwarded-For": "198.51.100.78"})
    assert other.post(path).status_code != 429


@pytest.mark.django_db
def test_a_flushed_redis_gives_no_more_tries(address: str, settings: Any) -> None:
    settings.API_LIMITS = {**settings.API_LIMITS, "sign_in": "5/minute"}
    client = Client(headers={"X-Forwarded-For": address})
    assert [client.post(SIGN_IN).status_code for _ in range(5)] == [404] * 5
    server = redis.Redis.from_url(settings.REDIS_URL)
    kept = list(server.scan_iter("limit:*"))
    assert kept
    server.delete(*kept)
    assert client.post(SIGN_IN).status_code == 429
    # And one that goes away in between gives none either.
    settings.REDIS_URL = NOBODY
    assert client.post(SIGN_IN).status_code == 429


@pytest.mark.django_db
def test_tries_are_given_back_one_by_one_without_redis(address: str, settings: Any) -> None:
    settings.REDIS_URL = NOBODY
    settings.API_LIMITS = {**settings.API_LIMITS, "sign_in": "5/minute"}
    client = Client(headers={"X-Forwarded-For": address})
    for _ in range(5):
        client.post(SIGN_IN)
    assert client.post(SIGN_IN).status_code == 429
    with connection.cursor() as cursor:  # as if the first had been a minute ago
        cursor.execute("UPDATE core_ratewindow SET hits[5] = hits[5] - interval '1 minute'")
    answer = client.post(SIGN_IN)
    assert (answer.status_code, answer["RateLimit"]) == (404, '"sign_in";r=0;t=60')
    assert client.post(SIGN_IN).status_code == 429
    assert len(RateWindow.objects.get().hits) == 5


@pytest.mark.django_db
def test_ordinary_requests_pass_without_redis_and_it_is_said_once_a_second(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = NOBODY
    _, client = user_with_key()
    before = limits.UNCOUNTED.labels("api")._value.get()
    assert {client.get(ME).status_code for _ in range(15)} == {200}
    assert limits.UNCOUNTED.labels("api")._value.get() == before + 15
    said = [record for record in caplog.records if record.getMessage() == "limits without Redis"]
    assert 1 <= len(said) < 15
    assert not re.search("127.0.0.1", caplog.text.replace("127.0.0.1 ", ""))


@pytest.mark.django_db(transaction=True)
def test_concurrent_tries_get_no_more_without_redis(address: str, settings: Any) -> None:
    settings.REDIS_URL = NOBODY
    settings.API_LIMITS = {**settings.API_LIMITS, "sign_in": "5/minute", "api": "5/minute"}

    def tries(function: Any) -> int:
        def one(_: int) -> bool:
            try:
                return bool(function("sign_in", address).allowed)
            finally:
                connection.close()

        with ThreadPoolExecutor(16) as pool:
            return sum(pool.map(one, range(160)))

    # The guard that ordinary requests have holds nothing then; sign-in's does, to the request.
    assert tries(limits.hit) == 160
    assert tries(limits.hit_firmly) == 5


@pytest.mark.django_db
def test_old_windows_are_purged_and_the_table_is_unlogged(address: str) -> None:
    limits.hit_firmly("sign_in", "old")
    limits.hit_firmly("sign_in", "fresh")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE core_ratewindow SET hits[1] = hits[1] - interval '2 hours' WHERE key = 'sign_in:old'"
        )
        assert limits.rate_windows_purge() == 1
        cursor.execute("SELECT relpersistence::text FROM pg_class WHERE relname = 'core_ratewindow'")
        assert cursor.fetchone() == ("u",)
    assert [row.key for row in RateWindow.objects.all()] == ["sign_in:fresh"]
