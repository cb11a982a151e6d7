"""Invitations in batches: made at once, sent by workers, paused and retried by operators, used up once."""

import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, Q, QuerySet

from apps.core import clock, doorbell
from apps.core.errors import Conflict, DomainError, NotFound
from apps.core.failpoints import reach
from apps.core.ids import uuid7_many
from apps.launch import tokens
from apps.launch.domain import INVITATION_LIVE, BatchState, EntryState, InvitationState
from apps.launch.models import Invitation, InvitationBatch, WaitlistEntry
from apps.launch.waitlist import email_check
from apps.mail.services import message_queue

BELL = "launch.invite"
BATCH_MAX = 50_000
S = InvitationState


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is: `sent` (accepted ones too) of `total`; `failed` are buried and can be retried."""

    total: int
    sent: int
    accepted: int
    failed: int
    held: int
    revoked: int


def batch_create(
    *,
    name: str,
    actor: str,
    emails: Sequence[str] = (),
    next_in_line: int = 0,
    entry_ids: Collection[UUID] = (),
    valid_days: int = 14,
) -> InvitationBatch:
    """Invite these e-mails, these entries of the waitlist, or the next so many who wait.

    All in one transaction: who is taken from the waitlist is taken once, whoever presses at the same time. An older
    invitation of the same e-mail is replaced. Raises `DomainError` for no one, too many, or what is no e-mail.
    """
    if not name.strip() or not actor.strip():
        raise DomainError("reason_missing", "Give the batch a name.", pointer="/name")
    people = {email_check(email): "en" for email in emails if email.strip()}
    with transaction.atomic():
        if next_in_line or entry_ids:
            _queue_lock()
            people |= _take_from_waitlist(next_in_line, entry_ids)
        if not people or len(people) > BATCH_MAX:
            raise DomainError(
                "batch_size", f"A batch has between 1 and {BATCH_MAX} people.", pointer="/emails"
            )
        batch = InvitationBatch.objects.create(
            name=name[:80], actor=actor[:120], valid_days=valid_days, total=len(people)
        )
        Invitation.objects.filter(email__in=people, state__in=INVITATION_LIVE).update(state=S.REVOKED)
        ids = uuid7_many(len(people))
        Invitation.objects.bulk_create(
            (
                Invitation(id=pk, batch=batch, email=email, language=language)
                for pk, (email, language) in zip(ids, people.items(), strict=True)
            ),
            batch_size=5_000,
        )
        doorbell.ring(BELL)
    return batch


def _queue_lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('launch.waitlist'))")


def _take_from_waitlist(next_in_line: int, entry_ids: Collection[UUID]) -> dict[str, str]:
    rows = WaitlistEntry.objects.filter(state=EntryState.WAITING).order_by("rank")
    if entry_ids:
        rows = rows.filter(pk__any_of=list(entry_ids))
    chosen = list(rows[:next_in_line] if next_in_line else rows)
    WaitlistEntry.objects.filter(pk__any_of=[row.pk for row in chosen]).update(state=EntryState.INVITED)
    return {row.email: row.language for row in chosen}


def invitations_send(rows: list[Invitation]) -> None:
    """The step of `launch.invite`: token and mail in one transaction with the state. The engine locks and commits."""
    now = clock.now()
    days = dict(
        InvitationBatch.objects.filter(pk__in={row.batch_id for row in rows}).values_list("pk", "valid_days")
    )
    for row in rows:
        token = tokens.token_make()
        row.token_hash, row.sent_at = tokens.token_hash(token), now
        row.expires_at = now + timedelta(days=days[row.batch_id])
        row.state = S.SENT
        message_queue(
            to=row.email,
            template="invitation",
            context={"code": token, "days": days[row.batch_id]},
            key=f"invitation:{row.pk}",
            essential=True,
            language=row.language,
        )
    reach("launch.invite.queued")
    Invitation.objects.bulk_update(rows, ["token_hash", "sent_at", "expires_at", "state"])


def batch_pause(*, batch_id: UUID) -> InvitationBatch:
    """Stop sending: what is not sent yet is held. Raises `NotFound`, `Conflict` unless it is running."""
    return _batch_move(batch_id, BatchState.RUNNING, BatchState.PAUSED, S.QUEUED, S.HELD)


def batch_resume(*, batch_id: UUID) -> InvitationBatch:
    """Go on. Raises `NotFound`, `Conflict` unless it is paused."""
    return _batch_move(batch_id, BatchState.PAUSED, BatchState.RUNNING, S.HELD, S.QUEUED)


def batch_cancel(*, batch_id: UUID) -> InvitationBatch:
    """Send no more, and take back what was sent and not used. Raises `NotFound`, `Conflict` when it is cancelled."""
    with transaction.atomic():
        batch = _batch_lock(batch_id)
        if batch.state == BatchState.CANCELLED:
            raise Conflict("batch_cancelled", "The batch is cancelled already.")
        batch.invitations.filter(state__in=INVITATION_LIVE).update(state=S.REVOKED)
        batch.state = BatchState.CANCELLED
        batch.save(update_fields=["state"])
    return batch


def _batch_move(
    batch_id: UUID, before: BatchState, after: BatchState, was: InvitationState, becomes: InvitationState
) -> InvitationBatch:
    with transaction.atomic():
        batch = _batch_lock(batch_id)
        if batch.state != before:
            raise Conflict("batch_state", f"The batch is {batch.state}.")
        # Waits for a chunk that is being sent: what was sent by then is sent, the rest is held.
        batch.invitations.filter(state=was).update(state=becomes)
        batch.state = after
        batch.save(update_fields=["state"])
        doorbell.ring(BELL)
    return batch


def _batch_lock(batch_id: UUID) -> InvitationBatch:
    batch = InvitationBatch.objects.select_for_update(no_key=True).filter(pk=batch_id).first()
    if batch is None:
        raise NotFound
    return batch


def batch_retry(*, batch_id: UUID) -> int:
    """Try again what failed for good; returns how many."""
    with transaction.atomic():
        count = Invitation.objects.filter(
            batch_id=batch_id, buried_at__isnull=False, state__in=[S.QUEUED, S.HELD]
        ).update(buried_at=None, attempts=0, leased_until=None, run_after=clock.now(), last_error="")
        doorbell.ring(BELL)
    return count


def progress_annotate(rows: QuerySet[InvitationBatch]) -> QuerySet[InvitationBatch]:
    """Batches with `sent`, `accepted`, `failed`, `held` and `revoked` counted, in the same query."""
    failed = Q(invitations__buried_at__isnull=False, invitations__state__in=[S.QUEUED, S.HELD])
    return rows.annotate(
        sent=Count("invitations", filter=Q(invitations__sent_at__isnull=False)),
        accepted=Count("invitations", filter=Q(invitations__state=S.ACCEPTED)),
        failed=Count("invitations", filter=failed),
        held=Count("invitations", filter=Q(invitations__state=S.HELD)),
        revoked=Count("invitations", filter=Q(invitations__state=S.REVOKED)),
    )


def progress_read(*, batch_id: UUID) -> Progress:
    """How far a batch is. One query; raises `NotFound`."""
    rows = progress_annotate(InvitationBatch.objects.filter(pk=batch_id))
    row: Any = rows.first()
    if row is None:
        raise NotFound
    return Progress(row.total, row.sent, row.accepted, row.failed, row.held, row.revoked)


def invitation_find(*, email: str, token: str, lock: bool = False) -> Invitation | None:
    """The invitation of exactly this e-mail and token, when it still lets somebody in."""
    if not email or not token:
        return None
    rows = Invitation.objects.filter(email=email, state=S.SENT)
    row = (rows.select_for_update(no_key=True) if lock else rows).first()
    stored = row.token_hash if row else "0" * 64
    if not hmac.compare_digest(stored, tokens.token_hash(token)) or row is None:
        return None
    return row if row.expires_at is not None and row.expires_at > clock.now() else None
