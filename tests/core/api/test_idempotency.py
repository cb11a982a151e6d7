"""A write that is sent twice happens once; the race is shown first without the guard."""

import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction

from apps.core import clock
from apps.core.api.idempotency import Scope, idempotency_keys_purge
from apps.core.models import Asset, IdempotencyKey
from tests.core.api.support import ApiClient, problem, user_with_key

pytestmark = pytest.mark.urls("tests.core.api.urls")
BARE, GUARDED, MONEY = (f"/api/v1/probe/{name}" for name in ("bare", "guarded", "money"))
THREADS = 8


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """Run `work(n)` in `count` threads that start at one moment; results in order."""
    barrier = threading.Barrier(count)
    results: list[object] = [None] * count

    def run(number: int) -> None:
        barrier.wait(10)
        try:
            results[number] = work(number)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


@pytest.mark.django_db(transaction=True)
def test_race_without_the_guard_happens_and_with_it_does_not() -> None:
    _, client = user_with_key()
    key = "race-" + uuid4().hex

    def send(path: str) -> Callable[[int], object]:
        def work(number: int) -> object:
            return ApiClient(client.key).post(path, {"n": number}, idempotency_key=key).status_code

        return work

    # Given the same write eight times at once, without a guard: it happens eight times.
    bare = together(THREADS, send(BARE))
    assert bare.count(201) == Asset.objects.count() > 1
    Asset.objects.all().delete()

    # With the guard: once. The others hear 409 (in flight), or the stored answer when they came late.
    def guarded(_: int) -> object:
        response = ApiClient(client.key).post(GUARDED, {"n": 0}, idempotency_key=key)
        return response.status_code, response.get("Idempotent-Replayed"), response.get("Retry-After")

    answers = together(THREADS, guarded)
    assert Asset.objects.count() == 1
    assert answers.count((201, None, None)) == 1
    assert set(answers) <= {(201, None, None), (201, "true", None), (409, None, "1")}
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_unique_row_holds_even_with_the_lock_off(monkeypatch: pytest.MonkeyPatch) -> None:
    _, client = user_with_key()
    monkeypatch.setattr("apps.core.api.idempotency._lock_try", lambda _: True)
    key = uuid4().hex

    def work(_: int) -> object:
        return ApiClient(client.key).post(GUARDED, {"n": 0}, idempotency_key=key).status_code

    answers = together(THREADS, work)
    assert Asset.objects.count() == 1
    assert set(answers) <= {201, 409}


@pytest.mark.django_db(transaction=True)
def test_request_in_flight_is_a_conflict_without_waiting() -> None:
    user, client = user_with_key()
    scope = Scope(f"user:{user.id}", "POST", GUARDED, "in-flight-1")
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [scope.lock])
            locked.set()
            done.wait(10)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(10)
    response = client.post(GUARDED, {"n": 1}, idempotency_key="in-flight-1")
    done.set()
    thread.join(10)
    problem(response, 409, "request_in_progress", errors=[], retryable=True)
    assert response["Retry-After"] == "1"
    assert Asset.objects.count() == 0
    assert client.post(GUARDED, {"n": 1}, idempotency_key="in-flight-1").status_code == 201


@pytest.mark.django_db
def test_replay_is_the_same_bytes_without_the_secret() -> None:
    _, client = user_with_key()
    first = client.post(GUARDED, {"n": 1, "m": 2}, idempotency_key="k-1")
    assert (first.status_code, first.json()["secret"], first.get("Idempotent-Replayed")) == (
        201,
        "s3cret",
        None,
    )
    again = client.post(GUARDED, b'{ "m":2,  "n":1 }', idempotency_key="k-1")
    assert again.status_code == 201
    assert again.content == first.content.replace(b'"s3cret"', b"null")
    assert (again["Idempotent-Replayed"], again["Location"]) == ("true", "/x")
    assert again["Content-Type"] == first["Content-Type"] == "application/json"
    assert Asset.objects.count() == 1
    assert "s3cret" not in str(IdempotencyKey.objects.values_list())


@pytest.mark.django_db
def test_other_body_is_refused_and_changes_nothing() -> None:
    _, client = user_with_key()
    client.post(GUARDED, {"n": 1}, idempotency_key="k-1")
    problem(client.post(GUARDED, {"n": 2}, idempotency_key="k-1"), 422, "idempotency_key_reused", errors=[])
    assert Asset.objects.count() == 1


@pytest.mark.django_db
def test_key_is_scoped_to_person_and_route() -> None:
    _, ann = user_with_key()
    _, bob = user_with_key("bob@example.org")
    for client, path in ((ann, GUARDED), (bob, GUARDED), (ann, MONEY)):
        response = client.post(path, {"n": 1}, idempotency_key="same")
        assert (response.status_code, response.get("Idempotent-Replayed")) == (201, None)
    assert Asset.objects.count() == 3


@pytest.mark.django_db
@pytest.mark.parametrize(("fail", "status"), [("answer", 409), ("crash", 500)])
def test_failed_attempt_leaves_nothing_behind(fail: str, status: int) -> None:
    _, client = user_with_key()
    response = client.post(GUARDED, {"n": 1, "fail": fail}, idempotency_key="k-1")
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    assert (Asset.objects.count(), IdempotencyKey.objects.count()) == (0, 0)
    # The key is free again: also for another body.
    assert client.post(GUARDED, {"n": 2}, idempotency_key="k-1").status_code == 201


@pytest.mark.django_db
def test_money_needs_a_key_and_others_do_not() -> None:
    _, client = user_with_key()
    problem(client.post(MONEY, {"n": 1}), 400, "idempotency_key_required", errors=[])
    assert Asset.objects.count() == 0
    assert client.post(GUARDED, {"n": 1}).status_code == 201
    assert IdempotencyKey.objects.count() == 0


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "ümlaut", "tab\tkey"])
def test_ill_formed_key(key: str) -> None:
    _, client = user_with_key()
    problem(client.post(GUARDED, {"n": 1}, idempotency_key=key), 400, "idempotency_key_invalid", errors=[])
    assert Asset.objects.count() == 0


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "kept"), [(GUARDED, timedelta(hours=24)), (MONEY, timedelta(days=30))])
def test_key_is_kept_its_time_and_then_purged(path: str, kept: timedelta) -> None:
    _, client = user_with_key()
    client.post(path, {"n": 1}, idempotency_key="k-1")
    row = IdempotencyKey.objects.get()
    assert row.expires_at - row.created_at == kept
    assert idempotency_keys_purge() == 0
    IdempotencyKey.objects.update(expires_at=clock.now())
    # Expired and not yet purged: the key counts as unused.
    response = client.post(path, {"n": 2}, idempotency_key="k-1")
    assert (response.status_code, response.get("Idempotent-Replayed")) == (201, None)
    assert Asset.objects.count() == 2
    IdempotencyKey.objects.update(expires_at=clock.now())
    assert idempotency_keys_purge() == 1
    assert IdempotencyKey.objects.count() == 0
