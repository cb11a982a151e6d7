"""From events to mails: each fact told once, to whom it concerns, as they want it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction

from apps.accounts.me.preferences import preferences_set
from apps.accounts.models import User
from apps.core import clock, work
from apps.core.models import Asset
from apps.events.services import EventDraft, events_publish
from apps.mail.models import Message
from apps.notifications import kinds
from apps.notifications.models import Digest, DigestEntry, Reader, Untold
from apps.notifications.reading import notifications_read

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def assets() -> None:
    Asset.objects.create(code="USDC", name="USD Coin", decimals=6)
    Asset.objects.create(code="WETH", name="Wrapped Ether", decimals=18)


@pytest.fixture
def person() -> User:
    return User.objects.create(email="ann@example.com")


def settled(person: User, **changes: Any) -> EventDraft:
    payload = {
        "plan_id": str(uuid4()),
        "plan_name": "Ether <b>weekly</b>",
        "slot_id": str(uuid4()),
        "number": 3,
        "scheduled_at": "2026-11-16T08:00:00+00:00",
        "sold_asset": "USDC",
        "bought_asset": "WETH",
        "amount_units": "50000000",
        "fee_units": "250000",
        "swapped_units": "49750000",
        "received_units": "21398400000000000",
        "transaction_hash": "0xabc",
        **changes,
    }
    return EventDraft("execution.settled", "person", person.pk, payload, "slot", uuid4())


def publish(*drafts: EventDraft) -> None:
    with transaction.atomic():
        events_publish(drafts)


def read_all() -> int:
    total = 0
    while passed := notifications_read():
        total += passed
    return total


@pytest.fixture(autouse=True)
def at_the_end() -> None:
    Reader.objects.get_or_create(name="mail")
    read_all()


def test_a_buy_is_told_once_with_exact_amounts(person: User) -> None:
    publish(settled(person))

    assert [notifications_read(), notifications_read()] == [1, 0]

    message = Message.objects.get()
    assert (message.to, message.template, message.essential) == ("ann@example.com", "buy_done", False)
    assert message.context["spent"] == "50"
    assert message.context["fee"] == "0.25"
    assert message.context["received"] == "0.0213984"
    assert message.context["at"] == "Monday 16 November 2026, 08:00 UTC"


def test_a_log_that_is_read_again_tells_nothing_twice(person: User) -> None:
    publish(settled(person), settled(person))
    read_all()
    Reader.objects.update(xid=0, event_id=UUID(int=0))

    assert read_all() >= 2

    assert Message.objects.count() == 2


def test_a_kill_before_the_commit_tells_neither_less_nor_more(person: User) -> None:
    publish(settled(person))
    with transaction.atomic():
        assert notifications_read() == 1
        transaction.set_rollback(True)
    assert Message.objects.count() == 0

    read_all()

    assert Message.objects.count() == 1


def test_two_readers_at_once_do_not_wait_for_each_other(person: User) -> None:
    import threading

    publish(settled(person))
    seen: list[int] = []

    def second() -> None:
        seen.append(notifications_read())
        connection.close()

    with transaction.atomic():
        assert notifications_read() == 1
        other = threading.Thread(target=second)
        other.start()
        other.join(10)

    assert seen == [0]
    assert Message.objects.count() == 1


def test_a_fact_that_cannot_be_told_is_shown_and_does_not_stop_the_others(person: User) -> None:
    publish(settled(person, bought_asset="GONE"), settled(person))

    read_all()

    row = Untold.objects.get()
    assert (row.topic, row.error) == ("execution.settled", "KeyError: 'GONE'")
    assert Message.objects.count() == 1


def test_who_is_gone_or_does_not_want_it_is_not_told(person: User) -> None:
    gone = User.objects.create(email="gone@example.com", is_active=False)
    preferences_set(user_id=person.pk, mails={"buy_done": False})

    publish(settled(gone), settled(person), EventDraft("plan.created", "person", person.pk, {}))

    assert read_all() == 3
    assert Message.objects.count() == 0


def test_old_news_is_passed(person: User, time_travel: Callable[..., int]) -> None:
    publish(settled(person))
    time_travel(seconds=4 * 86_400)

    assert read_all() == 1
    assert Message.objects.count() == 0


def test_withdrawals_are_told_step_by_step_and_the_first_always(person: User) -> None:
    preferences_set(user_id=person.pk, mails={"withdrawal_steps": False})
    other = User.objects.create(email="bob@example.com")
    payload = {
        "withdrawal_id": str(uuid4()), "asset": "USDC", "amount_units": "250000000", "fee_units": "350000",
        "sent_units": "249650000", "destination": "0x" + "5" * 40, "reason": "",
    }  # fmt: skip
    for user in (person, other):
        publish(
            *[
                EventDraft(f"withdrawal.{step}", "person", user.pk, payload)
                for step in ("requested", "sent", "confirmed")
            ]
        )

    read_all()

    found = Message.objects.order_by("to", "created_at", "id").values_list(
        "to", "template", "context__step", "essential"
    )
    assert list(found) == [
        ("ann@example.com", "withdrawal_requested", "requested", True),
        ("bob@example.com", "withdrawal_requested", "requested", True),
        ("bob@example.com", "withdrawal_step", "sent", False),
        ("bob@example.com", "withdrawal_step", "confirmed", False),
    ]


def test_a_thousand_events_cost_as_many_statements_as_one(
    person: User, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    publish(*[settled(person) for _ in range(300)])

    with django_assert_max_num_queries(12):
        assert notifications_read() == 300

    assert Message.objects.count() == 300


def test_a_digest_gathers_a_day_of_the_persons_zone(person: User, time_travel: Callable[..., int]) -> None:
    preferences_set(user_id=person.pk, zone="Pacific/Auckland", digest=True)
    publish(settled(person), settled(person, plan_name="Other"))
    read_all()
    assert (Message.objects.count(), DigestEntry.objects.count()) == (0, 2)
    digest = Digest.objects.get()
    local = digest.run_after.astimezone(ZoneInfo("Pacific/Auckland"))
    assert (local.hour, local.date()) == (8, digest.day + timedelta(days=1))
    assert work.drain(kinds.DIGEST_WORK) == 0

    time_travel(to=digest.run_after + timedelta(seconds=1))
    work.drain(kinds.DIGEST_WORK)
    work.drain(kinds.DIGEST_WORK)

    message = Message.objects.get()
    assert (message.template, message.context["count"]) == ("buy_digest", 2)
    assert [buy["plan_name"] for buy in message.context["buys"]] == ["Ether <b>weekly</b>", "Other"]
    # What is read of that day later is told by itself.
    digest.refresh_from_db()
    assert digest.state == "sent"


def test_what_comes_after_the_digest_has_left_is_told_by_itself(person: User) -> None:
    preferences_set(user_id=person.pk, digest=True)
    now = clock.now()
    Digest.objects.create(user=person, day=now.date(), state="sent", run_after=now)

    publish(settled(person))
    read_all()

    assert Message.objects.get().template == "buy_done"
    assert DigestEntry.objects.count() == 0


def test_every_reason_and_every_step_has_its_words() -> None:
    from apps.notifications.letters import _KNOWN_TO_OWNER, _STEPS, _WHY
    from apps.plans.models import SlotReason
    from apps.withdrawals.domain import WithdrawalState

    assert set(SlotReason.values) - {"filled"} == set(_WHY) | _KNOWN_TO_OWNER
    assert set(WithdrawalState.values) == {*_STEPS, "requested", "approved", "sending"}
