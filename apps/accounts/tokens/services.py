"""Writes: opening, refreshing, stepping up and ending sessions.

Refreshing. A refresh token is good once. The row of the token is the lock: whoever holds it marks it used and writes
its successor. A second request that comes while the first is under way is refused (`refresh_in_progress`), given
nothing, and revokes nothing: it cannot tell a thief from a second tab, and what it was refused for decides the next
try. Whoever shows a used token afterwards, at once or weeks later, from whatever address, has a copy: the whole session
ends (RFC 9700, section 4.14.2). There is no time of grace in which a used token is taken again. It would have to give
tokens to two holders of one token, and which of the two is the thief, the server cannot know.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.sessions.models import Session as DjangoSession
from django.db import connection, transaction
from django.db.models import Case, F, Func, QuerySet, Value, When
from django.http import HttpRequest

from apps.accounts.models import User
from apps.accounts.signin.sessions import stored_key
from apps.accounts.tokens.caller import Caller, caller_of, transport_of
from apps.accounts.tokens.domain import (
    ACCESS_LIFETIME,
    ENDED_KEPT,
    REFRESH_LIFETIME,
    SESSION_LIFETIME,
    TokenPair,
    access_token_make,
    device_hash,
    device_name,
    password_stamp,
    refresh_token_hash,
    refresh_token_make,
)
from apps.accounts.tokens.models import EndReason, RefreshToken, Session
from apps.accounts.tokens.notices import new_device_noticed, replay_noticed
from apps.accounts.tokens.selectors import session_is_live, signing
from apps.core import clock
from apps.core.errors import Conflict, DomainError, NotFound
from apps.events.services import EventDraft, events_publish

LAST_USED_EVERY_SECONDS = 60


class RefreshInProgress(Conflict):
    """Another request is refreshing with this token right now."""

    def __init__(self) -> None:
        super().__init__(
            "refresh_in_progress", "Another request is refreshing with this token: use what it gets."
        )


def session_open(*, user: User, request: HttpRequest, factors: Iterable[str] = ()) -> TokenPair:
    """Sign `user` in on the device that sent `request`, which has shown `factors`; the pair is seen only here.

    The transport is what the header `X-Token-Transport` says. Writes `session.opened`; its payload's `new_device`
    says whether the person, who has signed in before, never did so from such a device. Raises `ProblemError` (400)
    for a transport that there is not.
    """
    caller, now = caller_of(request), clock.now()
    session = Session(
        user=user,
        created_at=now,
        last_used_at=now,
        expires_at=now + SESSION_LIFETIME,
        device=device_name(caller.user_agent),
        device_hash=device_hash(caller.user_agent),
        address=caller.address,
        transport=transport_of(request),
        factors=list(factors),
        authenticated_at=now,
        django_key=request.session.session_key or "" if hasattr(request, "session") else "",
        password_stamp=password_stamp(user.password),
    )
    with transaction.atomic():
        known = set(Session.objects.filter(user=user).values_list("device_hash", flat=True).distinct())
        session.save(force_insert=True)
        pair = _pair_make(session, now)
        new_device = bool(known) and session.device_hash not in known
        events_publish([_event("session.opened", session, new_device=new_device, factors=session.factors)])
        if new_device:
            new_device_noticed(session)
    return pair


def session_refresh(*, text: str, transport: str, caller: Caller) -> TokenPair:
    """Trade an unused refresh token for the next pair. The rule for races and replays stands at the module's head.

    Raises `DomainError`: `invalid_refresh_token` (401: unknown, expired, used, sent the wrong way, or its session is
    over) or `RefreshInProgress` (409). A used token revokes its session before it is refused.
    """
    digest = refresh_token_hash(text)
    if digest is None:
        raise _invalid()
    # The refusal of a used token is raised outside: what it revoked must be committed.
    with transaction.atomic():
        outcome = _rotate(digest, transport, caller)
    if isinstance(outcome, DomainError):
        raise outcome
    return outcome


def _rotate(digest: str, transport: str, caller: Caller) -> TokenPair | DomainError:
    token = (
        RefreshToken.objects.select_related("session__user")
        .select_for_update(of=("self",), skip_locked=True, no_key=True)
        .filter(token_hash=digest)
        .first()
    )
    if token is None:
        # Unlike a made-up one, a token whose row is held exists.
        held = RefreshToken.objects.filter(token_hash=digest).exists()
        return RefreshInProgress() if held else _invalid()
    session, now = token.session, clock.now()
    if token.expires_at <= now or not session_is_live(session, now=now):
        return _invalid()
    if token.used_at is not None:
        _replay_refuse(session, caller)
        return _invalid()
    if transport != session.transport:
        return _invalid()
    token.used_at = now
    token.save(update_fields=["used_at"])
    session.last_used_at, session.address, session.device = (
        now,
        caller.address,
        device_name(caller.user_agent),
    )
    session.save(update_fields=["last_used_at", "address", "device"])
    return _pair_make(session, now)


def _replay_refuse(session: Session, caller: Caller) -> None:
    """Somebody has a copy of a refresh token: end the session for all holders, and say so."""
    if _sessions_end(Session.objects.filter(pk=session.pk), reason=EndReason.REFRESH_REUSE):
        replay_noticed(session, caller=caller)


def _pair_make(session: Session, now: datetime) -> TokenPair:
    """The session's next refresh token, and an access token beside it."""
    text = refresh_token_make()
    expires_at = min(now + REFRESH_LIFETIME, session.expires_at)
    RefreshToken.objects.create(
        session=session, token_hash=refresh_token_hash(text) or "", issued_at=now, expires_at=expires_at
    )
    access = access_token_make(
        signing=signing(),
        user_id=session.user_id,
        session_id=session.pk,
        factors=session.factors,
        authenticated_at=session.authenticated_at,
        now=now,
    )
    return TokenPair(
        session_id=session.pk,
        access_token=access,
        refresh_token=text,
        transport=session.transport,
        expires_in=int(ACCESS_LIFETIME.total_seconds()),
        refresh_expires_in=int((expires_at - now).total_seconds()),
    )


def session_step_up(*, session_id: UUID, factor: str) -> None:
    """The person has shown who they are once more: `step_up` views are open for a while."""
    Session.objects.filter(pk=session_id, revoked_at__isnull=True).update(
        authenticated_at=clock.now(),
        factors=Case(
            When(factors__contains=[factor], then=F("factors")),
            default=Func(
                F("factors"),
                Value(factor),
                function="array_append",
                output_field=Session._meta.get_field("factors"),
            ),
        ),
    )


def session_touch(*, session: Session) -> None:
    """Note that the session was used, at most once a minute; a row that somebody else holds is left for later."""
    now = clock.now()
    # A clock that was turned back must not stop the notes for as long as it was turned.
    if abs((now - session.last_used_at).total_seconds()) < LAST_USED_EVERY_SECONDS:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_session SET last_used_at = %s WHERE id = (SELECT id FROM accounts_session"
            " WHERE id = %s AND last_used_at = %s FOR NO KEY UPDATE SKIP LOCKED)",
            [now, session.pk, session.last_used_at],
        )


def session_django_key_set(*, session_id: UUID, django_key: str) -> None:
    """django-allauth gave its own session another key (it does when a password changes)."""
    Session.objects.filter(pk=session_id, revoked_at__isnull=True).update(django_key=django_key)


def session_revoke(*, user_id: UUID, session_id: UUID, reason: EndReason) -> None:
    """End a person's session at once. Ending it again is no error. Writes `session.revoked`. Raises `NotFound`."""
    owned = Session.objects.filter(pk=session_id, user_id=user_id)
    if not _sessions_end(owned, reason=reason) and not owned.exists():
        raise NotFound


def sessions_revoke(*, user_id: UUID, reason: EndReason, keep: UUID | None = None) -> int:
    """End all sessions of a person at once, but for `keep`; how many ended. Writes `session.revoked` for each."""
    sessions = Session.objects.filter(user_id=user_id)
    return len(_sessions_end(sessions.exclude(pk=keep) if keep else sessions, reason=reason))


def password_changed(*, user: User, keep: UUID | None = None) -> None:
    """After a person's password changed: end their sessions, but for the one in which they changed it."""
    sessions_revoke(user_id=user.pk, reason=EndReason.PASSWORD_CHANGED, keep=keep)
    if keep is not None:
        Session.objects.filter(pk=keep, user=user).update(password_stamp=password_stamp(user.password))


def _sessions_end(sessions: QuerySet[Session], *, reason: EndReason) -> Sequence[Session]:
    """End those that are not over, with django-allauth's own session behind each; answers which ended."""
    with transaction.atomic():
        ending = list(
            sessions.filter(revoked_at__isnull=True, expires_at__gt=clock.now())
            .select_for_update(no_key=True)
            .order_by("pk")
        )
        if ending:
            ids = [session.pk for session in ending]
            Session.objects.filter(pk__in=ids).update(revoked_at=clock.now(), reason=reason)
            keys = [stored_key(session.django_key) for session in ending if session.django_key]
            DjangoSession.objects.filter(session_key__in=keys).delete()
            events_publish([_event("session.revoked", session, reason=reason) for session in ending])
    return ending


def sessions_purge(*, limit: int = 5_000) -> int:
    """Delete refresh tokens that expired, and sessions that ended `ENDED_KEPT` ago; how many rows.

    Up to `limit` of each: the next run goes on. Two purges at once skip each other's rows.
    """
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM accounts_refreshtoken WHERE id IN (SELECT id FROM accounts_refreshtoken"
            " WHERE expires_at <= %s ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)",
            [now, limit],
        )
        deleted = cursor.rowcount
    ended = Session.objects.select_for_update(skip_locked=True)
    with transaction.atomic():
        for condition in ({"expires_at__lte": now - ENDED_KEPT}, {"revoked_at__lte": now - ENDED_KEPT}):
            ids = list(ended.filter(**condition).values_list("pk", flat=True)[: limit // 10])
            # With their tokens, of which those of a revoked session may not have expired.
            deleted += Session.objects.filter(pk__in=ids).delete()[0]
    return int(deleted)


def _event(topic: str, session: Session, **payload: Any) -> EventDraft:
    said = {"device": session.device, "address": session.address, "transport": session.transport, **payload}
    return EventDraft(topic, "person", session.user_id, said, object_type="session", object_id=session.pk)


def _invalid() -> DomainError:
    return DomainError(
        "invalid_refresh_token", "The refresh token is unknown, expired or used: sign in again.", status=401
    )
