"""Who may listen, how often, and for how long."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from apps.accounts.models import ApiKey, User
from apps.accounts.services import api_key_revoke
from apps.accounts.tokens.domain import ACCESS_LIFETIME, access_token_make
from apps.accounts.tokens.models import EndReason, Session
from apps.accounts.tokens.selectors import signing
from apps.accounts.tokens.services import session_revoke
from apps.core import clock
from apps.stream.models import OpenStream, StreamProcess
from tests.accounts.tokens.support import signed_in
from tests.stream.support import Person, Process, Watcher, person_make, until

pytestmark = pytest.mark.django_db(transaction=True)


def refusal(watcher: Watcher, status: int, code: str, **asked: object) -> dict[str, object]:
    found, headers, body = watcher.ask(**asked)  # type: ignore[arg-type]
    document: dict[str, object] = json.loads(body)
    assert (found, document["code"], document["status"]) == (status, code, status)
    assert headers["content-type"] == "application/problem+json"
    assert document["request_id"] == headers["x-request-id"]
    watcher.close()
    return document


def test_without_a_key_or_with_a_wrong_one(stream: Process) -> None:
    watcher = stream.watcher(person_make())
    refusal(watcher, 401, "not_authenticated", headers={"Authorization": ""})
    other = watcher.key[:-1] + ("x" if watcher.key[-1] != "x" else "y")
    refusal(watcher, 401, "invalid_api_key", headers={"Authorization": f"Bearer {other}"})


def test_without_the_scope(stream: Process) -> None:
    refusal(stream.watcher(person_make("plans:read")), 403, "insufficient_scope")


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "99999999999999999999", "\u0663", "1 2"])
def test_with_an_id_that_is_none(stream: Process, text: str) -> None:
    watcher = stream.watcher(person_make())
    document = refusal(watcher, 400, "validation_failed", headers={"Last-Event-ID": text.encode()})
    assert [one["parameter"] for one in document["errors"]] == ["last_event_id"]  # type: ignore[attr-defined]


def test_with_an_id_that_was_never_given(stream: Process) -> None:
    """Taken at its word, the client would miss what comes up to that number."""
    person = person_make()
    person.tell(3)
    document = refusal(stream.watcher(person), 400, "validation_failed", query="?last_event_id=4")
    assert [one["code"] for one in document["errors"]] == ["event_unknown"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("query", ["?topic=plan.paused", "?last_event_id=1&last_event_id=2", "?%ff=1"])
def test_with_parameters_that_are_not_known(stream: Process, query: str) -> None:
    refusal(stream.watcher(person_make()), 400, "validation_failed", query=query)


def test_other_methods(stream: Process) -> None:
    refusal(stream.watcher(person_make()), 405, "method_not_allowed", method="POST")
    assert stream.watcher(person_make()).ask(method="HEAD")[0] == 200
    assert not OpenStream.objects.exists()


def test_the_rest_of_the_api_is_not_here(stream: Process) -> None:
    person = person_make("plans:read")
    link = stream.watcher(person)
    refusal(link, 404, "not_found", query="/../plans")


def test_pages_of_an_allowed_origin_may_listen_and_resume(stream: Process) -> None:
    watcher = stream.watcher(person_make())
    origin = {"Origin": "https://app.example"}
    asked = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization,last-event-id",
    }
    status, headers, _ = watcher.ask(method="OPTIONS", headers={**origin, **asked})
    assert status == 200
    assert "last-event-id" in headers["access-control-allow-headers"]

    assert watcher.ask(headers=origin)[1]["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in watcher.ask(headers={"Origin": "https://other.example"})[1]
    watcher.close()


def test_a_web_process_says_that_it_is_the_wrong_one() -> None:
    key = person_make().key
    answer = Client().get("/api/v1/stream", headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["code"]) == (421, "misdirected_request")


def test_a_person_has_so_many_streams_over_all_processes(stream: Process, deaf: Process) -> None:
    person, other = person_make(), person_make()
    # The test before has emptied the tables: the processes say anew that they live.
    until(lambda: StreamProcess.objects.count() == 2, what="both are noted")
    watchers = [process.watcher(person).open() for process in (stream, deaf, deaf)]

    for process in (stream, deaf):
        status, headers, _ = process.watcher(person).ask()
        assert (status, headers["retry-after"]) == (429, "5")
    refusal(stream.watcher(person), 429, "too_many_streams")
    stream.watcher(other).open().close()

    # One that is closed counts no longer.
    watchers[1].close()
    until(lambda: stream.watcher(person).ask()[0] == 200, what="room for one")
    for watcher in watchers:
        watcher.close()


def test_who_opens_many_at_once_gets_no_more_than_the_limit(stream: Process, deaf: Process) -> None:
    person = person_make()
    until(lambda: StreamProcess.objects.count() == 2, what="both are noted")
    watchers = [process.watcher(person) for process in (stream, deaf) for _ in range(12)]

    with ThreadPoolExecutor(len(watchers)) as pool:
        statuses = list(pool.map(lambda one: one.ask()[0], watchers))

    assert sorted(statuses) == [200] * 3 + [429] * 21
    for watcher in watchers:
        watcher.close()


def test_streams_of_a_process_that_was_killed_do_not_count_for_long(doomed: Process, stream: Process) -> None:
    person = person_make()
    watchers = [doomed.watcher(person).open() for _ in range(3)]
    # The process takes eight.
    watchers += [doomed.watcher(person_make()).open() for _ in range(5)]
    document = refusal(doomed.watcher(person_make()), 503, "unavailable")
    assert document["detail"] == "This process has as many live streams as it takes. Try again."
    until(lambda: StreamProcess.objects.count() == 3 or OpenStream.objects.count() == 8, what="noted")
    doomed.child.kill()

    with connection.cursor() as cursor:
        cursor.execute("UPDATE stream_streamprocess SET seen_at = seen_at - interval '16 seconds'")
    until(lambda: stream.watcher(person).ask()[0] == 200, what="room again")
    for watcher in watchers:
        watcher.close()


def revoke(person: Person) -> None:
    api_key_revoke(user_id=person.user.pk, api_key_id=ApiKey.objects.get(user=person.user).pk)


def switch_off(person: Person) -> None:
    User.objects.filter(pk=person.user.pk).update(is_active=False)


def narrow(person: Person) -> None:
    ApiKey.objects.filter(user=person.user).update(scopes=["plans:read"])


def delete(person: Person) -> None:
    ApiKey.objects.filter(user=person.user).delete()


@pytest.mark.parametrize("end", [revoke, switch_off, narrow, delete])
def test_a_stream_ends_with_its_key(stream: Process, end: object) -> None:
    person, other = person_make(), person_make()
    opened = time.monotonic()
    watcher, beside = stream.watcher(person).open(), stream.watcher(other).open()

    end(person)  # type: ignore[operator]
    waited = time.monotonic() - opened

    assert [(one.event, one.data) for one in watcher.rest()] == [("stream.closed", {"reason": "revoked"})]
    assert watcher.quiet_seconds < waited + 5
    assert watcher.ask()[0] in (401, 403)
    # and nobody else's
    other.tell()
    assert beside.events(1)[0].id == 1
    beside.close()
    watcher.close()


def test_a_stream_ends_when_its_key_expires(stream: Process) -> None:
    person = person_make()
    # Time enough to open it before.
    expires_at = clock.now() + timedelta(seconds=5)
    ApiKey.objects.filter(user=person.user).update(expires_at=expires_at)
    watcher = stream.watcher(person).open()

    assert [(one.event, one.data) for one in watcher.rest()] == [("stream.closed", {"reason": "expired"})]
    assert clock.now() >= expires_at
    assert watcher.quiet_seconds < 5 + 4.5
    watcher.close()


def sign_out(person: Person) -> None:
    session_revoke(
        user_id=person.user.pk,
        session_id=Session.objects.get(user=person.user).pk,
        reason=EndReason.SIGNED_OUT,
    )


def change_password(person: Person) -> None:
    person.user.set_password("another long pass phrase")
    person.user.save()


@pytest.mark.parametrize("end", [sign_out, switch_off, change_password])
def test_a_stream_ends_with_its_session(stream: Process, end: object) -> None:
    user, pair, _ = signed_in()
    person = Person(user, pair.access_token)
    opened = time.monotonic()
    watcher = stream.watcher(person).open()
    person.tell()
    assert watcher.events(1)[0].event == "execution.settled"

    end(person)  # type: ignore[operator]
    waited = time.monotonic() - opened

    last = watcher.rest()[-1]
    assert (last.event, last.data) == ("stream.closed", {"reason": "revoked"})
    assert watcher.quiet_seconds < waited + 5
    refusal(watcher, 401, "invalid_access_token")


def test_a_stream_ends_when_its_access_token_expires_and_goes_on_with_the_next(stream: Process) -> None:
    user, pair, _ = signed_in()
    old = access_token_make(
        signing=signing(),
        user_id=user.pk,
        session_id=pair.session_id,
        factors=["password"],
        authenticated_at=clock.now(),
        now=clock.now() - ACCESS_LIFETIME + timedelta(seconds=6),
    )
    watcher = stream.watcher(Person(user, old)).open()

    assert [(one.event, one.data) for one in watcher.rest()] == [("stream.closed", {"reason": "expired"})]
    assert watcher.quiet_seconds < 6 + 4
    person = Person(user, pair.access_token)
    person.tell()
    watcher.key = person.key
    assert watcher.open().events(1)[0].event == "execution.settled"
    watcher.close()
