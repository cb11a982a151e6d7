"""Housekeeping of what signing in leaves behind, and what follows a password that the admin changed."""

from uuid import UUID

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts.models import User
from apps.accounts.signin.facts import fact
from apps.accounts.signin.notices import mail_queue, notice
from apps.accounts.signin.unproved import unproved_purge
from apps.accounts.tokens.services import password_changed
from apps.events.services import EventDraft, events_publish

_STAFF = {"address": "-", "device": "An operator of the platform"}


def admin_password_changed(*, user_id: UUID, request: HttpRequest) -> None:
    """Whoever's password was changed in the admin, by them or for them, is told and signed out of the API.

    In the change's transaction. For somebody else's the admin's own record names who did it.
    """
    topic = "person.password_changed"
    user = User.objects.get(pk=user_id)
    password_changed(user=user)
    own = request.user.pk == user.pk
    if own:
        fact(topic, user.pk, before={"has_password": True}, after={"has_password": True})
    else:
        events_publish([EventDraft(topic, "person", user.pk, {})])
    mail_queue("password_changed", to=user.email, context={**notice(request), **({} if own else _STAFF)})


def signin_purge(*, limit: int = 5_000) -> int:
    """Delete sessions, counts and wrong tries that are over, and people who never proved their email; how many rows.

    Up to `limit` of each: the next run goes on. Two purges at once skip each other's rows.
    """
    # The machine's time, not `core.clock`'s: it is what Django, allauth and axes go by.
    now, deleted = timezone.now(), 0
    over = (
        ("django_session", "session_key", "expire_date", now),
        ("accounts_signinmark", "key", "expires_at", now),
        ("axes_accessattempt", "id", "attempt_time", now - settings.AXES_COOLOFF_TIME),
    )
    with connection.cursor() as cursor:
        for table, key, column, before in over:
            cursor.execute(
                f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {column} <= %s"
                f" ORDER BY {column} LIMIT %s FOR UPDATE SKIP LOCKED)",
                [before, limit],
            )
            deleted += cursor.rowcount
    return deleted + unproved_purge(limit=limit // 10)
