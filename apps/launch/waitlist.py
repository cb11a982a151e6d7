"""The waitlist: an e-mail, its proof by code, a place in the queue, and a referral code that moves one up.

Nothing here says whether an e-mail is known: joining answers the same for a new one, one that waits already and one
that has an account, and a wrong code is the same as a wrong e-mail.
"""

import hmac
from dataclasses import dataclass
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction
from django.db.models import CharField, Max, Value
from django.db.models.functions import Cast, Coalesce, Concat

from apps.accounts.managers import email_normalise
from apps.core import clock
from apps.core.errors import DomainError, NotFound
from apps.core.ids import uuid7
from apps.launch import tokens
from apps.launch.domain import EntryState, InvitationState
from apps.launch.models import Invitation, WaitlistEntry
from apps.mail.services import message_queue

CODE_MINUTES = 10
CODE_TRIES = 5
RESEND_PAUSE = timedelta(seconds=60)
# `.invalid` never resolves (RFC 2606), so that nothing can ever be sent there.
FORGOTTEN = "@closed.invalid"
# After so many codes the pause doubles with each, up to about an hour: anybody may ask, in anybody's name.
CODES_UNHINDERED = 5
_DOUBLINGS_MAX = 6
UNPROVEN_KEPT = timedelta(days=7)
# After it expired, or was taken back: time for operators to see who did not come.
INVITATION_KEPT = timedelta(days=30)


# By the ORM it would have no target, and take the deferrable constraint on ranks for one.
_INSERT = """
INSERT INTO launch_waitlistentry (id, email, language, state, referral_code, referrals, ticket_hash, code_hash,
    code_tries, code_number, created_at)
VALUES (%s, %s, %s, 'unproven', %s, 0, '', '', 0, 0, %s) ON CONFLICT (email) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Somebody's place: 1 is next; `None` once invited. `waiting` counts everybody who waits."""

    entry: WaitlistEntry
    position: int | None
    waiting: int


@dataclass(frozen=True, slots=True)
class Proved:
    """`ticket` shows the standing again (`standing_read`); it is seen this once."""

    standing: Standing
    ticket: str


def email_check(email: str) -> str:
    """The e-mail as it is stored; raises `DomainError`."""
    normal = email_normalise(email)
    try:
        validate_email(normal)
    except ValidationError as error:
        raise DomainError("invalid_email", "Not an email address.", pointer="/email") from error
    return normal


def entry_join(*, email: str, referral_code: str = "", language: str = "en") -> None:
    """Send a code to `email`, at most one a minute, later one an hour; whoever has it proves the e-mail by it.

    An unknown referral code counts for nothing and is no error. Raises `DomainError` for what is no e-mail.
    """
    email, now = email_check(email), clock.now()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, [uuid7(), email, language, tokens.referral_code_make(), now])
        entry = WaitlistEntry.objects.select_for_update(no_key=True).get(email=email)
        code = tokens.code_make()
        hashed = tokens.code_hash(entry_id=entry.pk, code=code)
        if entry.code_sent_at is not None and now - entry.code_sent_at < _pause(entry.code_number):
            return
        if entry.state == EntryState.UNPROVEN and referral_code and entry.referred_by_id is None:
            entry.referred_by = (
                WaitlistEntry.objects.filter(referral_code=referral_code.strip().upper())
                .exclude(pk=entry.pk)
                .exclude(state=EntryState.UNPROVEN)
                .first()
            )
        entry.code_hash, entry.code_tries, entry.code_sent_at = hashed, 0, now
        entry.code_expires_at = now + timedelta(minutes=CODE_MINUTES)
        entry.code_number += 1
        entry.save()
        message_queue(
            to=email,
            template="waitlist_code",
            context={"code": code, "minutes": CODE_MINUTES},
            key=f"waitlist:{entry.pk}:{entry.code_number}",
            essential=True,
            language=entry.language,
        )


def _pause(codes: int) -> timedelta:
    """How long after its last code an address gets the next, when it got so many."""
    doublings = min(max(codes - CODES_UNHINDERED, 0), _DOUBLINGS_MAX)
    return RESEND_PAUSE * (1 << doublings)


def entry_prove(*, email: str, code: str) -> Proved:
    """Whoever has the code has the e-mail: they wait from now on (or are told where they stand), with a new ticket.

    Raises `DomainError` `invalid_code` for a wrong, old or used code, too many tries, and an e-mail that is not
    known. The try is counted in any case.
    """
    ticket = tokens.token_make()
    with transaction.atomic():
        # Before any row: whoever moves up changes a neighbour's row, which must not be held by one who waits here.
        _queue_lock()
        entry = (
            WaitlistEntry.objects.select_for_update(no_key=True).filter(email=email_normalise(email)).first()
        )
        right = entry is not None and _code_take(entry, code)
        if entry is not None and right:
            entry.ticket_hash = tokens.token_hash(ticket)
            first = entry.state == EntryState.UNPROVEN
            if first:
                entry.state, entry.proved_at = EntryState.WAITING, clock.now()
                entry.rank = (WaitlistEntry.objects.aggregate(last=Max("rank"))["last"] or 0) + 1
            entry.save()
            if entry.proved_at is not None and entry.referred_by_id is not None:
                _referral_count(entry)
            standing = _standing(entry)
            if first:
                _place_tell(standing)
            return Proved(standing, ticket)
    # Outside of the transaction: the try stays counted.
    said = "The code is wrong or too old, or another one was sent since."
    raise DomainError("invalid_code", said, pointer="/code")


def _place_tell(standing: Standing) -> None:
    entry = standing.entry
    message_queue(
        to=entry.email,
        template="waitlist",
        context={"position": standing.position, "referral_code": entry.referral_code},
        key=f"waitlist:{entry.pk}:place",
        essential=True,
        language=entry.language,
    )


def _code_take(entry: WaitlistEntry, code: str) -> bool:
    """Whether `code` is right now; right or used up, it is gone. Saves the count of tries."""
    stored = entry.code_hash
    given = tokens.code_hash(entry_id=entry.pk, code=code)
    fresh = entry.code_expires_at is not None and entry.code_expires_at > clock.now()
    right = bool(stored) and fresh and hmac.compare_digest(stored, given)
    entry.code_tries += 1
    if right or entry.code_tries >= CODE_TRIES:
        entry.code_hash = ""
    WaitlistEntry.objects.filter(pk=entry.pk).update(code_tries=entry.code_tries, code_hash=entry.code_hash)
    return right


def _referral_count(entry: WaitlistEntry) -> None:
    """Once per person referred: the referrer goes one place up, in front of whoever stood before them."""
    referrer_id = str(entry.referred_by_id)
    WaitlistEntry.objects.filter(pk=entry.pk).update(referred_by=None)
    # Nobody else counts meanwhile: the queue's lock is held.
    referrer = WaitlistEntry.objects.get(pk=referrer_id)
    referrer.referrals += 1
    referrer.save(update_fields=["referrals"])
    if referrer.state != EntryState.WAITING:
        return
    before = (
        WaitlistEntry.objects.filter(state=EntryState.WAITING, rank__lt=referrer.rank)
        .order_by("-rank")
        .first()
    )
    if before is None:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE launch_waitlistentry SET rank = CASE id WHEN %(up)s THEN %(low)s ELSE %(high)s END"
            " WHERE id IN (%(up)s, %(down)s)",
            {"up": referrer.pk, "down": before.pk, "low": before.rank, "high": referrer.rank},
        )


def standing_read(*, ticket: str) -> Standing:
    """Where the holder of `ticket` stands. Raises `NotFound`. Three queries, the position by index."""
    return _standing(_by_ticket(ticket))


def entry_leave(*, ticket: str) -> None:
    """Take oneself off the list: the row goes, with the e-mail. Raises `NotFound`."""
    with transaction.atomic():
        _queue_lock()
        _by_ticket(ticket).delete()


def _by_ticket(ticket: str) -> WaitlistEntry:
    entry = WaitlistEntry.objects.filter(ticket_hash=tokens.token_hash(ticket)).first() if ticket else None
    if entry is None:
        raise NotFound
    return entry


def _standing(entry: WaitlistEntry) -> Standing:
    entry.refresh_from_db(fields=["rank", "state", "referrals"])
    waiting = WaitlistEntry.objects.filter(state=EntryState.WAITING)
    position = waiting.filter(rank__lte=entry.rank).count() if entry.state == EntryState.WAITING else None
    return Standing(entry, position, waiting.count())


def _queue_lock() -> None:
    """One at a time changes who stands where, until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('launch.waitlist'))")


def waitlist_purge(*, limit: int = 5_000) -> int:
    """Forget e-mails that nobody proved within `UNPROVEN_KEPT`, those of invitations that nobody used, and codes that
    are over; how many e-mails.
    """
    over = WaitlistEntry.objects.filter(code_expires_at__lte=clock.now()).exclude(code_hash="")
    over.filter(pk__in=over.values("pk")[:limit]).update(code_hash="")
    old = WaitlistEntry.objects.filter(
        state=EntryState.UNPROVEN, created_at__lt=clock.now() - UNPROVEN_KEPT
    ).values("pk")[:limit]
    return WaitlistEntry.objects.filter(pk__in=old).delete()[0] + _invitations_forget(limit)


def _invitations_forget(limit: int) -> int:
    """The rows stay: their batch counts them. One that waits to be sent, in a paused batch say, is kept as it is."""
    over = Coalesce("expires_at", "created_at")
    unused = Invitation.objects.annotate(over=over).filter(
        state__in=[InvitationState.SENT, InvitationState.REVOKED], over__lt=clock.now() - INVITATION_KEPT
    )
    ids = unused.exclude(email__endswith=FORGOTTEN).values("pk")[:limit]
    blank = Concat(Value("invited-"), Cast("pk", CharField()), Value(FORGOTTEN))
    return Invitation.objects.filter(pk__in=ids).update(email=blank)
