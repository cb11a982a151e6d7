"""Invitations in batches, and the gate that they open."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction

from apps.accounts import signup_gate
from apps.accounts.services import user_create
from apps.accounts.signup_gate import SignUpRefused
from apps.core import clock, work
from apps.core.errors import Conflict, DomainError
from apps.launch import invitations
from apps.launch.domain import State
from apps.launch.kinds import INVITE
from apps.launch.models import Invitation, InvitationBatch, WaitlistEntry
from apps.launch.switches import switch_stop
from apps.mail.models import Message
from apps.treasury.models import Activity
from tests.chain import test_kills as chain_kills
from tests.launch.support import go, secret_of, waiting

pytestmark = pytest.mark.django_db
STEPS = """
import django
django.setup()
from apps.core import work
from apps.launch.kinds import INVITE
work.drain(INVITE, budget_seconds=0)
"""


def batch(*emails: str, valid_days: int = 14) -> InvitationBatch:
    return invitations.batch_create(name="first", actor="op", emails=emails, valid_days=valid_days)


def send() -> None:
    work.drain(INVITE, budget_seconds=0)


def token_of(email: str) -> str:
    return secret_of(Message.objects.filter(to=email, template="invitation").order_by("-id")[0])


def progress(made: InvitationBatch) -> tuple[int, int, int, int, int, int]:
    found = invitations.progress_read(batch_id=made.pk)
    return (found.total, found.sent, found.accepted, found.failed, found.held, found.revoked)


def refusal(email: str, token: str) -> str:
    try:
        signup_gate.current().check(email=email, invitation=token)
    except SignUpRefused as refused:
        return refused.code
    return ""


def test_a_batch_is_sent_and_counted() -> None:
    made = batch("Ada@example.org", "ada@example.org", "bea@example.org", "")
    assert progress(made) == (2, 0, 0, 0, 0, 0)

    send()

    assert progress(made) == (2, 2, 0, 0, 0, 0)
    assert {m.to for m in Message.objects.all()} == {"ada@example.org", "bea@example.org"}
    row = Invitation.objects.get(email="ada@example.org")
    assert token_of("ada@example.org") not in str(Invitation.objects.filter(pk=row.pk).values())
    assert row.expires_at is not None
    assert (row.expires_at - clock.now()).days == 13


def test_the_next_in_line_are_taken_once() -> None:
    for name in ("a", "b", "c"):
        waiting(f"{name}@example.org")
    first = invitations.batch_create(name="two", actor="op", next_in_line=2)
    assert set(first.invitations.values_list("email", flat=True)) == {"a@example.org", "b@example.org"}
    second = invitations.batch_create(name="the rest", actor="op", next_in_line=2)
    assert list(second.invitations.values_list("email", flat=True)) == ["c@example.org"]
    with pytest.raises(DomainError) as refused:
        invitations.batch_create(name="nobody", actor="op", next_in_line=2)
    assert refused.value.code == "batch_size"
    assert InvitationBatch.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_two_operators_at_once_invite_nobody_twice() -> None:
    for number in range(6):
        waiting(f"p{number}@example.org")

    def press(_: int) -> int:
        try:
            return invitations.batch_create(name="at once", actor="op", next_in_line=3).total
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(press, range(2))) == [3, 3]
    assert Invitation.objects.filter(state="queued").values("email").distinct().count() == 6
    assert WaitlistEntry.objects.filter(state="invited").count() == 6


def test_a_paused_batch_sends_nothing_and_goes_on() -> None:
    made = batch("a@example.org", "b@example.org")
    invitations.batch_pause(batch_id=made.pk)
    send()
    assert progress(made) == (2, 0, 0, 0, 2, 0)
    assert not Message.objects.exists()
    with pytest.raises(Conflict):
        invitations.batch_pause(batch_id=made.pk)

    invitations.batch_resume(batch_id=made.pk)
    send()
    assert progress(made) == (2, 2, 0, 0, 0, 0)


def test_a_cancelled_batch_takes_back_what_was_sent() -> None:
    go(State.PRE_LAUNCH)
    made = batch("a@example.org")
    send()
    token = token_of("a@example.org")
    assert refusal("a@example.org", token) == ""
    invitations.batch_cancel(batch_id=made.pk)
    assert refusal("a@example.org", token) == "invitation_invalid"


def test_one_that_fails_is_buried_alone_and_can_be_retried() -> None:
    made = batch("a@example.org", "bad@example.org", "c@example.org")
    # What makes one fail for good here: the database refuses its mail.
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE mail_message ADD CONSTRAINT no_bad CHECK (\"to\" <> 'bad@example.org')")
    for _ in range(INVITE.max_attempts):
        Invitation.objects.update(run_after=clock.now())
        send()
    assert progress(made) == (3, 2, 0, 1, 0, 0)

    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE mail_message DROP CONSTRAINT no_bad")
    assert invitations.batch_retry(batch_id=made.pk) == 1
    send()

    assert progress(made) == (3, 3, 0, 0, 0, 0)
    assert Message.objects.count() == 3


def test_a_newer_invitation_replaces_the_older() -> None:
    go(State.PRE_LAUNCH)
    batch("a@example.org")
    send()
    old = token_of("a@example.org")
    batch("a@example.org")
    send()
    assert refusal("a@example.org", old) == "invitation_invalid"
    assert refusal("a@example.org", token_of("a@example.org")) == ""


def test_before_the_launch_only_the_invited_email_gets_in(time_travel: Callable[..., int]) -> None:
    go(State.PRE_LAUNCH)
    batch("a@example.org", "b@example.org", valid_days=2)
    send()
    token = token_of("a@example.org")
    assert refusal("a@example.org", "") == "invitation_required"
    assert refusal("a@example.org", "guess") == "invitation_invalid"
    assert refusal("b@example.org", token) == "invitation_invalid"
    assert refusal("A@Example.org", token) == ""
    assert signup_gate.current().open_for(invitation="") is False
    assert signup_gate.current().open_for(invitation=token) is True
    time_travel(seconds=2 * 86_400 + 1)
    assert refusal("a@example.org", token) == "invitation_invalid"


def test_an_invitation_is_used_up_with_the_account() -> None:
    go(State.PRE_LAUNCH)
    waiting("a@example.org")
    made = invitations.batch_create(name="one", actor="op", next_in_line=1)
    send()
    token = token_of("a@example.org")
    user = user_create(email="a@example.org")

    signup_gate.current().used(user_id=user.pk, email="a@example.org", invitation=token)

    assert progress(made) == (1, 1, 1, 0, 0, 0)
    assert Invitation.objects.get().user == user
    assert WaitlistEntry.objects.get().state == "joined"
    assert refusal("a@example.org", token) == "invitation_invalid"
    with pytest.raises(SignUpRefused):
        signup_gate.current().used(user_id=user.pk, email="a@example.org", invitation=token)


@pytest.mark.django_db(transaction=True)
def test_of_two_accounts_at_once_the_second_is_refused() -> None:
    go(State.PRE_LAUNCH)
    batch("a@example.org")
    send()
    token = token_of("a@example.org")
    users = [user_create(email=f"{uuid4()}@example.org").pk for _ in range(2)]

    def use(user_id: object) -> str:
        try:
            with transaction.atomic():
                signup_gate.current().used(user_id=user_id, email="a@example.org", invitation=token)  # type: ignore[arg-type]
        except SignUpRefused as refused:
            return refused.code
        finally:
            connections.close_all()
        return ""

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(use, users)) == ["", "invitation_invalid"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.LIVE, ""),
        (State.PRE_LAUNCH, "invitation_required"),
        (State.PAUSED, "sign_up_closed"),
        (State.MAINTENANCE, "sign_up_closed"),
    ],
)
def test_who_may_sign_up_without_an_invitation(state: State, expected: str) -> None:
    go(state)
    assert refusal("a@example.org", "") == expected


def test_the_kill_switch_closes_sign_up_even_for_the_invited() -> None:
    go(State.PRE_LAUNCH)
    batch("a@example.org")
    send()
    switch_stop(activity=Activity.SIGNING_UP, reason="spam", actor="op")
    assert refusal("a@example.org", token_of("a@example.org")) == "sign_up_closed"


@pytest.mark.parametrize("emails", [(), ("",), ("no email",)])
def test_a_batch_of_nobody_is_refused(emails: tuple[str, ...]) -> None:
    with pytest.raises(DomainError):
        batch(*emails)
    assert not InvitationBatch.objects.exists()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "place",
    ["launch.invite.queued", "work.launch.invite.after_commit"],
)
def test_killed_anywhere_everybody_has_one_mail_and_it_works(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_kills, "STEPS", STEPS)
    go(State.PRE_LAUNCH)
    emails = [f"p{number}@example.org" for number in range(5)]
    made = batch(*emails)

    assert chain_kills.run("invite", tmp_path, place) == -9
    with connection.cursor() as cursor:
        cursor.execute("UPDATE launch_invitation SET leased_until = clock_timestamp() - interval '1 s'")
    send()

    assert progress(made) == (5, 5, 0, 0, 0, 0)
    assert Message.objects.filter(template="invitation").count() == 5
    assert [refusal(email, token_of(email)) for email in emails] == [""] * 5
