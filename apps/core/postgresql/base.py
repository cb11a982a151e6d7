"""The database engine of `config.settings.common.databases`."""

import select
from datetime import UTC
from time import monotonic
from typing import Any

from django.db.backends.postgresql.base import ServerSideCursor
from django_prometheus.db.backends.postgresql import base
from psycopg import adapters
from psycopg.postgres import types
from psycopg.pq import Format, TransactionStatus

from apps.core import clock

# psycopg's own loader of instants, in C where it has one. It reads them in the session's zone.
_INSTANTS = adapters.get_loader(types["timestamptz"].oid, Format.TEXT)


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]
    """A new connection tells the clock what time it is (`apps.core.clock`).

    Looks at a kept connection's socket before each request or task instead of asking `SELECT 1`.

    Nothing comes on an idle connection but the server's goodbye: a restart, a terminated session and an idle
    time-out all leave the socket readable. Only then is the server asked. A server that is lost without a goodbye is
    noticed by the first statement, as it would be by `SELECT 1`. Within a failed transaction nothing is usable, which
    `SELECT 1` would say too.

    Instants are read by psycopg's own loader: Django's is written in Python, a microsecond for each one read, only to
    name a zone that the session has already. Everything here is in UTC.
    """

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        link = super().get_new_connection(conn_params)
        link.adapters.register_loader("timestamptz", _INSTANTS)
        return link

    def create_cursor(self, name: str | None = None) -> Any:
        """Django's, without its look at the loader's zone."""
        if self.timezone != UTC:
            raise NotImplementedError("the database is read in UTC")
        link: Any = self.connection
        if name is None:
            return link.cursor()
        named: Any = ServerSideCursor
        return named(link, name=name, scrollable=False, withhold=link.autocommit)

    def init_connection_state(self) -> None:
        super().init_connection_state()
        link: Any = self.connection
        asked = monotonic()
        # Not through a cursor of Django's: nobody's statement, and not counted as one.
        (database,) = link.execute("SELECT clock_timestamp()").fetchone()
        clock.compare(database=database, asked=asked, answered=monotonic())

    def is_usable(self) -> bool:
        link: Any = self.connection
        if link is None or link.closed or link.info.transaction_status == TransactionStatus.INERROR:
            return False
        poll = select.poll()
        poll.register(link.fileno(), select.POLLIN)
        return not poll.poll(0) or bool(super().is_usable())
