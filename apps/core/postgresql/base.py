"""The database engine of `config.settings.common.databases`."""

import select
from datetime import UTC
from time import monotonic
from typing import Any

from django.db.backends.postgresql.base import ServerSideCursor
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from django_prometheus.db.backends.postgresql import base
from psycopg import Error, adapters
from psycopg.postgres import types
from psycopg.pq import Format, TransactionStatus

from apps.core import clock

# psycopg's own loader of instants, in C where it has one. It reads them in the session's zone.
_INSTANTS = adapters.get_loader(types["timestamptz"].oid, Format.TEXT)


# A value that cannot be read stands in the message itself (SQLSTATE class 22).
_DATA_EXCEPTION = "22"


class QuietErrorWrapper(DatabaseErrorWrapper):
    """Django's errors, of which the text holds no row.

    PostgreSQL's DETAIL shows the values that violated a constraint, CONTEXT and LINE the statement with what was in it;
    as text they would go to logs, error reports and work items. What is left is the message (with the constraint's
    name) and the SQLSTATE; code that needs more has `error.__cause__.diag`.
    """

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        if isinstance(exc_value, Error) and exc_value.diag.message_primary and exc_value.sqlstate:
            state = exc_value.sqlstate
            message = (
                "data exception" if state.startswith(_DATA_EXCEPTION) else exc_value.diag.message_primary
            )
            exc_value.args = (f"{message} (SQLSTATE {state})",)
        super().__exit__(exc_type, exc_value, traceback)


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

    @cached_property
    def wrap_database_errors(self) -> QuietErrorWrapper:
        return QuietErrorWrapper(self)

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
