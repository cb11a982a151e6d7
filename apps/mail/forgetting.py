"""What mail forgets after `MAIL_KEPT_DAYS`, a bounded number of rows at a time.

Of a message its address, context and letter go. The row stays: its key, so that nothing is told twice, and what was
sent when. What providers said goes with it; they cannot say it again, as their webhooks are at most minutes old.
Which addresses are suppressed or unsubscribed is kept: forgetting that would be writing to them again.
"""

from datetime import timedelta

from django.conf import settings
from django.db import connection

from apps.core import clock


def mail_forget(*, limit: int = 5_000) -> int:
    """Forget what is over, up to `limit` of each kind; how many rows. The next run goes on.

    Two at once skip each other's rows. Indexes: mail_message_to_forget, mail_message_dead, mail_providerevent_received.
    """
    before, forgotten = clock.now() - timedelta(days=settings.MAIL_KEPT_DAYS), 0
    with connection.cursor() as cursor:
        for statement in (_GIVE_UP, _BLANK, _EVENTS):
            cursor.execute(statement, {"before": before, "limit": limit})
            forgotten += int(cursor.fetchone()[0])
    return forgotten


# A dead letter that nobody dug up in all that time: what it says is no longer true.
_GIVE_UP = """
WITH old AS (
    SELECT id FROM mail_message WHERE buried_at < %(before)s ORDER BY buried_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED),
given_up AS (
    UPDATE mail_message AS message
    SET state = 'suppressed', suppressed_for = 'expired', secret = NULL, buried_at = NULL, updated_at = now()
    FROM old WHERE message.id = old.id AND message.state IN ('queued', 'queued_bulk') RETURNING message.id)
SELECT count(*) FROM given_up
"""
_BLANK = """
WITH old AS (
    SELECT id FROM mail_message
    WHERE "to" <> '' AND state IN ('sent', 'suppressed') AND created_at < %(before)s
    ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
letters AS (DELETE FROM mail_letter AS letter USING old WHERE letter.message_id = old.id),
blanked AS (
    UPDATE mail_message AS message SET "to" = '', context = '{}', last_error = '', updated_at = now()
    FROM old WHERE message.id = old.id RETURNING message.id)
SELECT count(*) FROM blanked
"""
_EVENTS = """
WITH old AS (
    SELECT id FROM mail_providerevent WHERE received_at < %(before)s ORDER BY received_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED),
deleted AS (DELETE FROM mail_providerevent AS event USING old WHERE event.id = old.id RETURNING event.id)
SELECT count(*) FROM deleted
"""
