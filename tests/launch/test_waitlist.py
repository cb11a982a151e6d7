"""The waitlist: proof, place, referral, and that nobody learns who is on it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections

from apps.accounts import signup_gate
from apps.accounts.services import user_create
from apps.core import clock, work
from apps.core.errors import DomainError
from apps.launch.domain import State
from apps.launch.invitations import batch_cancel, batch_create, batch_pause, batch_resume, progress_read
from apps.launch.kinds import INVITE
from apps.launch.models import Invitation, WaitlistEntry
from apps.launch.waitlist import entry_join, entry_prove, waitlist_purge
from apps.mail.models import Message
from tests.core.api.support import ApiClient, problem
from tests.launch.support import code_sent, go, waiting

JOIN, CONFIRM, POSITION = (f"/api/v1/waitlist{end}" for end in ("", "/confirm", "/position"))


@pytest.fixture
def client(db: None) -> ApiClient:
    go(State.PRE_LAUNCH)
    return ApiClient()


def order() -> list[str]:
    rows = WaitlistEntry.objects.filter(state="waiting").order_by("rank")
    return [email.split("@")[0] for email in rows.values_list("email", flat=True)]


def test_join_prove_and_stand(client: ApiClient) -> None:
    joined = client.post(JOIN, {"email": " Ada@Example.org "})
    assert (joined.status_code, joined.json()) == (202, {"status": "code_sent", "resend_after_seconds": 60})
    message = Message.objects.get()
    assert (message.to, message.template, message.essential) == ("ada@example.org", "waitlist_code", True)

    proved = client.post(CONFIRM, {"email": "ada@example.org", "code": code_sent("ada@example.org")})

    assert proved.status_code == 200
    body = proved.json()
    assert proved["Cache-Control"] == "no-store"
    assert (body["state"], body["position"], body["waiting"], body["referrals"]) == ("waiting", 1, 1, 0)
    again = client.get(POSITION, x_waitlist_ticket=body["ticket"])
    assert again.json() == {name: value for name, value in body.items() if name != "ticket"}


def test_of_code_and_ticket_only_digests_are_stored(client: ApiClient) -> None:
    entry_join(email="ada@example.org")
    code = code_sent("ada@example.org")
    assert code not in str(WaitlistEntry.objects.values().get())
    proved = entry_prove(email="ada@example.org", code=code)
    assert proved.ticket not in str(WaitlistEntry.objects.values().get())


def test_joining_answers_the_same_whoever_it_is(client: ApiClient) -> None:
    waiting("waits@example.org")
    entry_join(email="unproven@example.org")
    user_create(email="member@example.org")
    answers = {
        name: client.post(JOIN, {"email": f"{name}@example.org"})
        for name in ("new", "waits", "unproven", "member")
    }
    assert len({(answer.status_code, answer.content) for answer in answers.values()}) == 1


def test_a_wrong_code_answers_the_same_whoever_it_is(client: ApiClient) -> None:
    entry_join(email="ada@example.org")
    wrong = f"{(int(code_sent('ada@example.org')) + 1) % 1_000_000:06d}"
    answers = [
        client.post(CONFIRM, {"email": email, "code": wrong})
        for email in ("ada@example.org", "nobody@example.org", "no email at all")
    ]
    for answer in answers:
        problem(answer, 400, "invalid_code", errors=[("/code", "invalid_code")])
    assert (
        len(
            {
                tuple(sorted((k, v) for k, v in a.json().items() if k not in ("request_id", "errors")))
                for a in answers
            }
        )
        == 1
    )


def test_five_tries_and_the_code_is_gone(client: ApiClient) -> None:
    entry_join(email="ada@example.org")
    code = code_sent("ada@example.org")
    for _ in range(5):
        with pytest.raises(DomainError):
            entry_prove(email="ada@example.org", code="000000" if code != "000000" else "000001")
    with pytest.raises(DomainError):
        entry_prove(email="ada@example.org", code=code)
    assert WaitlistEntry.objects.get().state == "unproven"


def test_a_code_is_good_for_ten_minutes_and_once(client: ApiClient, time_travel: Callable[..., int]) -> None:
    entry_join(email="ada@example.org")
    code = code_sent("ada@example.org")
    time_travel(seconds=601)
    with pytest.raises(DomainError):
        entry_prove(email="ada@example.org", code=code)
    proved = waiting("ada@example.org")
    with pytest.raises(DomainError):
        entry_prove(email="ada@example.org", code=code_sent("ada@example.org"))
    assert proved.standing.position == 1


def test_within_a_minute_no_second_mail_and_a_new_code_ends_the_old_one(
    client: ApiClient, time_travel: Callable[..., int]
) -> None:
    entry_join(email="ada@example.org")
    first = code_sent("ada@example.org")
    entry_join(email="ada@example.org")
    assert Message.objects.count() == 1
    time_travel(seconds=61)
    entry_join(email="ada@example.org")
    assert Message.objects.count() == 2
    if code_sent("ada@example.org") != first:
        with pytest.raises(DomainError):
            entry_prove(email="ada@example.org", code=first)


def test_nobody_s_mailbox_is_filled_in_their_name(client: ApiClient, time_travel: Callable[..., int]) -> None:
    for _ in range(24 * 12):
        time_travel(seconds=300)
        entry_join(email="ada@example.org")
    # Some while the pause grows to an hour, then one an hour.
    assert 25 <= Message.objects.count() <= 35
    assert waiting("bob@example.org").standing.position == 1


def test_each_proven_referral_moves_one_place_up(client: ApiClient) -> None:
    for name in ("a", "b", "c"):
        waiting(f"{name}@example.org")
    code = WaitlistEntry.objects.get(email="c@example.org").referral_code

    entry_join(email="d@example.org", referral_code=code)
    assert order() == ["a", "b", "c"]  # joined, not proved
    entry_prove(email="d@example.org", code=code_sent("d@example.org"))
    assert order() == ["a", "c", "b", "d"]
    waiting("e@example.org", referral_code=code.lower())
    assert order() == ["c", "a", "b", "d", "e"]
    waiting("f@example.org", referral_code=code)

    assert order() == ["c", "a", "b", "d", "e", "f"]  # the first stays the first
    assert WaitlistEntry.objects.get(email="c@example.org").referrals == 3


def test_nobody_is_referred_twice_or_by_themselves(
    client: ApiClient, time_travel: Callable[..., int]
) -> None:
    waiting("a@example.org")
    b = waiting("b@example.org")
    code = b.standing.entry.referral_code
    waiting("c@example.org", referral_code=code)
    time_travel(seconds=61)
    waiting("c@example.org", referral_code=code)  # proves again, for a new ticket
    waiting("b@example.org", referral_code=code)
    assert WaitlistEntry.objects.get(email="b@example.org").referrals == 1
    assert order() == ["b", "a", "c"]


def test_an_unknown_referral_code_is_no_error(client: ApiClient) -> None:
    assert client.post(JOIN, {"email": "a@example.org", "referral_code": "NOBODYSX"}).status_code == 202


def test_a_ticket_shows_its_own_place_only_and_leaving_deletes_the_email(client: ApiClient) -> None:
    ticket = waiting("ada@example.org").ticket
    problem(client.get(POSITION, x_waitlist_ticket="x" * 43), 404, "not_found")
    problem(client.get(POSITION), 404, "not_found")
    assert client.delete(POSITION, x_waitlist_ticket=ticket).status_code == 204
    assert not WaitlistEntry.objects.exists()
    problem(client.get(POSITION, x_waitlist_ticket=ticket), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"email": "no email"}, "/email", "invalid_email"),
        ({"email": "a@example.org", "rank": 1}, "/rank", "unknown_field"),
        ({"email": "a@example.org", "language": "xx"}, "/language", "invalid_choice"),
        ({"email": 7}, "/email", "invalid"),
        ({}, "/email", "required"),
    ],
)
def test_bad_input_changes_nothing(client: ApiClient, body: Any, pointer: str, code: str) -> None:
    answer = client.post(JOIN, body)
    assert answer.status_code == 400
    assert [(one["pointer"], one["code"]) for one in answer.json()["errors"]] == [(pointer, code)]
    assert not WaitlistEntry.objects.exists()
    assert not Message.objects.exists()


def test_closed_once_live(client: ApiClient) -> None:
    go(State.LIVE)
    problem(client.post(JOIN, {"email": "a@example.org"}), 409, "waitlist_closed")
    assert not WaitlistEntry.objects.exists()


def test_unproven_emails_are_forgotten_after_a_week(
    client: ApiClient, time_travel: Callable[..., int]
) -> None:
    waiting("stays@example.org")
    entry_join(email="goes@example.org")
    time_travel(seconds=int(timedelta(days=8).total_seconds()))
    entry_join(email="young@example.org")
    assert waitlist_purge() == 1
    emails = set(WaitlistEntry.objects.values_list("email", flat=True))
    assert emails == {"stays@example.org", "young@example.org"}


def test_codes_that_are_over_are_forgotten_and_fresh_ones_work(
    client: ApiClient, time_travel: Callable[..., int]
) -> None:
    entry_join(email="old@example.org")
    time_travel(seconds=601)
    entry_join(email="young@example.org")
    assert waitlist_purge() == 0
    hashes = dict(WaitlistEntry.objects.values_list("email", "code_hash"))
    assert hashes["old@example.org"] == ""
    assert hashes["young@example.org"] != ""


@pytest.mark.django_db(transaction=True)
def test_friends_who_prove_at_once_each_count_once_and_nobody_deadlocks() -> None:
    go(State.PRE_LAUNCH)
    for name in ("a", "b", "c", "d"):
        waiting(f"{name}@example.org")
    codes = dict(WaitlistEntry.objects.values_list("email", "referral_code"))
    # Everybody brings everybody's friends at once: neighbours are swapped from both sides.
    friends = [f"{name}{number}@example.org" for number in range(4) for name in ("c", "d")]
    for friend in friends:
        entry_join(email=friend, referral_code=codes[f"{friend[0]}@example.org"])

    def prove(friend: str) -> int | None:
        try:
            return entry_prove(email=friend, code=code_sent(friend)).standing.position
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(prove, friends))

    ranks = list(WaitlistEntry.objects.filter(state="waiting").values_list("rank", flat=True))
    assert len(ranks) == len(set(ranks)) == 12
    counted = dict(WaitlistEntry.objects.values_list("email", "referrals"))
    assert (counted["c@example.org"], counted["d@example.org"]) == (4, 4)
    # One after the other, in whichever order: a friend's place, which nobody takes, says when they came.
    came = [name for name in order() if name in {friend.split("@")[0] for friend in friends}]
    replayed = ["a", "b", "c", "d"]
    for friend in came:
        at = replayed.index(friend[0])
        if at:
            replayed[at - 1], replayed[at] = replayed[at], replayed[at - 1]
    assert order() == replayed + came
    assert connection.is_usable()


def test_the_position_is_counted_on_an_index(client: ApiClient) -> None:
    now = clock.now()
    WaitlistEntry.objects.bulk_create(
        WaitlistEntry(
            email=f"p{number}@example.org",
            state="waiting",
            rank=number + 1,
            proved_at=now,
            referral_code=f"R{number}",
        )
        for number in range(2_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE launch_waitlistentry")
        cursor.execute(
            "EXPLAIN SELECT count(*) FROM launch_waitlistentry WHERE state = 'waiting' AND rank <= 300"
        )
        assert "launch_waitlist_queue" in str(cursor.fetchall())


@pytest.mark.django_db
def test_emails_of_invitations_that_nobody_used_are_forgotten(time_travel: Callable[..., int]) -> None:
    # given one of each: used, not used, taken back, and one that waits in a paused batch
    sent = batch_create(name="sent", actor="op", emails=["came@example.org", "not@example.org"])
    back = batch_create(name="back", actor="op", emails=["back@example.org"])
    work.drain(INVITE, budget_seconds=0)
    user = user_create(email="came@example.org")
    signup_gate.current().used(user_id=user.pk, email=user.email, invitation="")
    batch_cancel(batch_id=back.pk)
    held = batch_create(name="held", actor="op", emails=["held@example.org"])
    batch_pause(batch_id=held.pk)
    before = set(Invitation.objects.values_list("email", flat=True))
    progress = [progress_read(batch_id=one.pk) for one in (sent, back, held)]

    # when they have been over for 30 days: those of 14 days after 44
    time_travel(seconds=int(timedelta(days=44).total_seconds()) - 60)
    assert waitlist_purge() == 0
    assert set(Invitation.objects.values_list("email", flat=True)) == before
    time_travel(seconds=120)
    assert [waitlist_purge(limit=1) for _ in range(3)] == [1, 1, 0]

    # then nothing tells whose they were, and the batches count as before
    gone = {
        f"invited-{one.pk}@closed.invalid" for one in Invitation.objects.exclude(email__contains="example")
    }
    assert set(Invitation.objects.values_list("email", flat=True)) == gone | {
        "came@example.org",
        "held@example.org",
    }
    assert len(gone) == 2
    assert [progress_read(batch_id=one.pk) for one in (sent, back, held)] == progress
    batch_resume(batch_id=held.pk)
    work.drain(INVITE, budget_seconds=0)
    assert progress_read(batch_id=held.pk).sent == 1
