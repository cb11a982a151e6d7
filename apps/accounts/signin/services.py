"""Housekeeping of what signing in leaves behind."""

from django.conf import settings
from django.db import connection
from django.utils import timezone


def signin_purge(*, limit: int = 5_000) -> int:
    """Delete sessions, counts and wrong tries that are over; how many rows.

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
    return deleted
