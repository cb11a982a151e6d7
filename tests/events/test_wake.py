"""One word through Redis per commit, best effort: what a stream process hears, and what it costs when Redis is away."""

import time
from collections.abc import Iterator
from itertools import pairwise
from uuid import UUID

import pytest
import redis
from django.conf import settings
from django.db import transaction

from apps.core.ids import uuid7
from apps.events import wake
from apps.events.services import EventDraft, events_publish

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator["redis.client.PubSub"]:
    # A Redis that was slow for somebody before is asked all the same.
    monkeypatch.setattr(wake, "_resting_until", 0.0)
    with redis.Redis.from_url(settings.REDIS_URL) as client, client.pubsub() as channel:
        channel.subscribe(wake.CHANNEL)
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        yield channel


@pytest.fixture
def redis_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    wake._client.cache_clear()
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
    yield
    wake._client.cache_clear()
    monkeypatch.setattr(wake, "_resting_until", 0.0)


def publish(*subjects: UUID, kind: str = "person", each: int = 1) -> None:
    events_publish([EventDraft("plan.paused", kind, subject) for subject in subjects for _ in range(each)])


def messages(channel: "redis.client.PubSub") -> list[bytes]:
    found = []
    while message := channel.get_message(timeout=0.3):
        found.append(message["data"])
    return found


def test_a_commit_names_the_people_it_tells_of_once(heard: "redis.client.PubSub") -> None:
    one, other = sorted([uuid7(), uuid7()])
    with transaction.atomic():
        publish(one, other, each=3)
        assert messages(heard) == []

    assert messages(heard) == [one.bytes + other.bytes]
    assert wake.people_named(one.bytes + other.bytes) == [one.bytes, other.bytes]


def test_what_is_rolled_back_or_nobody_s_is_not_said(heard: "redis.client.PubSub") -> None:
    with transaction.atomic():
        publish(uuid7())
        transaction.set_rollback(True)
    with transaction.atomic():
        publish(uuid7(), kind="network")

    assert messages(heard) == []


def test_thousands_in_one_commit_are_one_short_word(heard: "redis.client.PubSub") -> None:
    with transaction.atomic():
        publish(*[uuid7() for _ in range(2_000)])

    assert messages(heard) == [wake.EVERYBODY]
    assert wake.people_named(wake.EVERYBODY) is None


@pytest.mark.parametrize("message", [b"x", b"*" * 17])
def test_what_cannot_be_read_wakes_everybody(message: bytes) -> None:
    assert wake.people_named(message) is None


def test_without_redis_a_commit_stands_and_does_not_wait(
    redis_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, client = uuid7(), wake._client()
    asked: list[float] = []

    def ask() -> redis.Redis:
        asked.append(time.monotonic())
        return client

    with monkeypatch.context() as patched:
        patched.setattr(wake, "_client", ask)
        for _ in range(20):
            with transaction.atomic():
                publish(person)

    # Refused at once here; a Redis that swallows packets costs its time-out once, then nobody asks for a while.
    assert all(later - earlier > 5 for earlier, later in pairwise(asked))
    assert 1 <= len(asked) < 20
    assert wake._resting_until > asked[-1] + 5
