"""Locks of the waitlist and of invitations: each race with the lock off, then with it on."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction

from apps.accounts import signup_gate
from apps.accounts.services import user_create
from apps.accounts.signup_gate import SignUpRefused
from apps.core import clock, work
from apps.core.errors import Conflict, DomainError
from apps.launch import invitations, tokens
from apps.launch.domain import State
from apps.launch.kinds import INVITE
from apps.launch.models import Invitation, InvitationBatch, WaitlistEntry
from apps.launch.waitlist import entry_join, entry_prove
from apps.mail.models import Message
from tests.launch.support import code_sent, go, secret_of, waiting
from tests.support.races import off_and_on, race

pytestmark = pytest.mark.django_db(transaction=True)
ENTRY, QUEUE = 'FROM "launch_waitlistentry"', "pg_advisory_xact_lock"
ANN, BEN = "ann@example.org", "ben@example.org"


@off_and_on
def test_two_requests_for_a_code_send_one(locked: bool) -> None:
    entry_join(email=ANN)
    WaitlistEntry.objects.update(code_sent_at=clock.now() - timedelta(hours=1))

    race(lambda: entry_join(email=ANN), lambda: entry_join(email=ANN), lock=ENTRY, locked=locked)

    # Without the lock the second code is kept, and its mail is not sent: it has the first one's key.
    assert Message.objects.filter(template="waitlist_code").count() == 2
    entry = WaitlistEntry.objects.get()
    assert (entry.code_hash == tokens.code_hash(entry_id=entry.pk, code=code_sent(ANN))) is locked


@off_and_on
def test_a_code_is_worth_nothing_once_another_one_was_sent(locked: bool) -> None:
    entry_join(email=ANN)
    old = code_sent(ANN)
    WaitlistEntry.objects.update(code_sent_at=clock.now() - timedelta(hours=1))

    _, answer = race(
        lambda: entry_join(email=ANN),
        lambda: entry_prove(email=ANN, code=old),
        lock=ENTRY,
        locked=locked,
    )

    assert isinstance(answer, DomainError) is locked
    # The new one works; without the lock it is gone with the old one.
    assert (WaitlistEntry.objects.get().code_hash != "") is locked


@off_and_on
def test_two_who_prove_at_once_do_not_share_a_place(locked: bool) -> None:
    for email in (ANN, BEN):
        entry_join(email=email)
    codes = {email: code_sent(email) for email in (ANN, BEN)}

    _, answer = race(
        lambda: entry_prove(email=ANN, code=codes[ANN]),
        lambda: entry_prove(email=BEN, code=codes[BEN]),
        lock=QUEUE,
        locked=locked,
        read='MAX."launch_waitlistentry"."rank"',
    )

    ranks = WaitlistEntry.objects.order_by("email").values_list("rank", flat=True)
    assert list(ranks) == ([1, 2] if locked else [1, None])
    assert isinstance(answer, IntegrityError) is not locked


@off_and_on
def test_two_batches_do_not_invite_the_same_people(locked: bool) -> None:
    for email in (ANN, BEN):
        waiting(email)

    def invite() -> InvitationBatch:
        return invitations.batch_create(name="at once", actor="op", next_in_line=1)

    race(invite, invite, lock=QUEUE, locked=locked, read=ENTRY)

    assert Invitation.objects.values("email").distinct().count() == (2 if locked else 1)


@off_and_on
def test_a_batch_that_was_cancelled_is_not_paused_after_it(locked: bool) -> None:
    batch = invitations.batch_create(name="one", actor="op", emails=[ANN])

    _, answer = race(
        lambda: invitations.batch_cancel(batch_id=batch.pk),
        lambda: invitations.batch_pause(batch_id=batch.pk),
        lock='FROM "launch_invitationbatch"',
        locked=locked,
    )

    batch.refresh_from_db()
    assert batch.state == ("cancelled" if locked else "paused")
    assert isinstance(answer, Conflict) is locked


@off_and_on
def test_an_invitation_makes_one_account(locked: bool) -> None:
    go(State.PRE_LAUNCH)
    invitations.batch_create(name="one", actor="op", emails=[ANN])
    work.drain(INVITE, budget_seconds=0)
    token = secret_of(Message.objects.get(template="invitation"))
    people = [user_create(email=f"p{number}@example.org").pk for number in range(2)]

    def use(user_id: UUID) -> None:
        with transaction.atomic():
            signup_gate.current().used(user_id=user_id, email=ANN, invitation=token)

    _, answer = race(
        lambda: use(people[0]), lambda: use(people[1]), lock='FROM "launch_invitation" ', locked=locked
    )

    assert isinstance(answer, SignUpRefused) is locked
    assert Invitation.objects.get().user_id == people[0 if locked else 1]
