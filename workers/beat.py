"""Beat that may run twice: the one that holds a PostgreSQL advisory lock ticks, the other stands by.

The lock belongs to a session, so that it is free the moment its holder dies. Should two beats tick after all
(a paused process that wakes up), no harm is done: ticks only ring doorbells.
"""

import logging
from typing import Any

import psycopg
from django.db import DatabaseError, InterfaceError, connection
from django_celery_beat.schedulers import DatabaseScheduler

from apps.core import doorbell, work

logger = logging.getLogger(__name__)

# An arbitrary constant of ours; advisory locks are numbers.
_LOCK_KEY = 7_265_001
_STANDBY_SECONDS = 1.0
# How often the leader looks for what has just become due. The look is one statement of index probes.
_LOOK_SECONDS = 0.25


class SingleScheduler(DatabaseScheduler):  # type: ignore[misc]
    """django-celery-beat's scheduler behind the lock.

    Between its ticks it rings for rows that have just become due, so that a plan or a wait of a fraction of a second
    need not wait for the task `work.tick`, which stands in line behind the work of a busy moment. It rings once per
    kind; what comes of it, and whether the message arrives, is `work.tick`'s to see to.
    """

    _session: psycopg.Connection[Any] | None = None
    _due: frozenset[str] = frozenset()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if not self._leads():
            return _STANDBY_SECONDS
        wait = float(super().tick(*args, **kwargs))
        self._ring_newly_due()
        return min(wait, _LOOK_SECONDS)

    def _ring_newly_due(self) -> None:
        try:
            due = frozenset(work.due_names())
        except (DatabaseError, InterfaceError) as error:
            logger.warning("beat cannot look for what is due: %s", type(error).__name__)
            connection.close()
            return
        for name in sorted(due - self._due):
            doorbell.ring(name)
        self._due = due

    def close(self) -> None:
        super().close()
        if self._session is not None:
            self._session.close()

    def _leads(self) -> bool:
        """Whether this process holds the lock; a lost session loses it, and it is asked for again."""
        try:
            if self._session is not None:
                self._session.execute("SELECT 1")
                return True
            self._session = self._lock()
        except psycopg.OperationalError as error:
            logger.warning("beat has no database: %s", type(error).__name__)
            self._session = None
        return self._session is not None

    def _lock(self) -> psycopg.Connection[Any] | None:
        """A session of its own that holds the lock; None while another beat does."""
        session: psycopg.Connection[Any] = psycopg.connect(
            **connection.get_connection_params(), autocommit=True
        )
        row = session.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK_KEY]).fetchone()
        if row is None or not row[0]:
            session.close()
            return None
        logger.info("beat leads")
        return session
