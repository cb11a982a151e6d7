"""Reads: whose access token it is, and what sessions a person has."""

from datetime import datetime
from functools import cache
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from apps.accounts.models import User
from apps.accounts.tokens.domain import AccessToken, Signing, access_token_read, password_stamp
from apps.accounts.tokens.models import Session
from apps.core import clock
from apps.core.api.pagination import Page, PageQuery, keyset_page


def signing() -> Signing:
    return Signing(settings.ACCESS_TOKEN_KEYS, settings.ACCESS_TOKEN_ISSUER, settings.ACCESS_TOKEN_AUDIENCE)


def access_token_authenticate(*, text: str) -> tuple[Session, AccessToken] | None:
    """The live session with its user, in one query; `None` when the token or the session is not good any more.

    The signature is checked first, so that a made-up token costs no query. Nothing is kept between requests: a
    session that was signed out, a person who was deactivated and a changed password are refused by the next one.
    """
    now = clock.now()
    claims = access_token_read(text, signing=signing(), now=now)
    if claims is None:
        return None
    session = _session_with_user(claims.session_id)
    if session is None or session.user_id != claims.user_id or not session_is_live(session, now=now):
        return None
    token = AccessToken(
        session_id=session.pk,
        expires_at=claims.expires_at,
        factors=tuple(session.factors),
        authenticated_at=session.authenticated_at,
        transport=session.transport,
        django_key=session.django_key,
    )
    return session, token


def session_is_live(session: Session, *, now: datetime) -> bool:
    """Of a session that was read with its user."""
    return (
        session.revoked_at is None
        and session.expires_at > now
        and session.user.is_active
        and session.password_stamp == password_stamp(session.user.password)
    )


def session_page(*, user: User, query: PageQuery) -> Page[Session]:
    """A person's live sessions, the newest first. Index: accounts_session_listing."""
    return keyset_page(sessions_live(user=user), query=query)


def sessions_live(*, user: User) -> QuerySet[Session]:
    """Sessions of `user` that a token may still use."""
    return Session.objects.filter(
        user=user,
        revoked_at__isnull=True,
        expires_at__gt=clock.now(),
        password_stamp=password_stamp(user.password),
    )


def _session_with_user(session_id: UUID) -> Session | None:
    """Asked by every request, so that its SQL is written once, not by the ORM each time."""
    statement, session_names, user_names = _look_up()
    with connection.cursor() as cursor:
        cursor.execute(statement, [session_id])
        row = cursor.fetchone()
    if row is None:
        return None
    session = Session.from_db(None, session_names, row[: len(session_names)])
    session.user = User.from_db(None, user_names, row[len(session_names) :])
    return session


@cache
def _look_up() -> tuple[str, list[str], list[str]]:
    """The statement, and the names of the session's and the user's columns in its rows."""
    sessions, people = Session._meta, User._meta
    columns = [f'session."{field.column}"' for field in sessions.concrete_fields]
    columns += [f'person."{field.column}"' for field in people.concrete_fields]
    statement = (
        f'SELECT {", ".join(columns)} FROM "{sessions.db_table}" AS session'
        f' INNER JOIN "{people.db_table}" AS person ON person.id = session.user_id WHERE session.id = %s'
    )
    names = ([field.attname for field in meta.concrete_fields] for meta in (sessions, people))
    session_names, user_names = names
    return statement, session_names, user_names
