"""The database engine of `config.settings.common.databases`."""

import select
from typing import Any

from django_prometheus.db.backends.postgresql import base
from psycopg.pq import TransactionStatus


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]
    """Looks at a kept connection's socket before each request or task instead of asking `SELECT 1`.

    Nothing comes on an idle connection but the server's goodbye: a restart, a terminated session and an idle
    time-out all leave the socket readable. Only then is the server asked. A server that is lost without a goodbye is
    noticed by the first statement, as it would be by `SELECT 1`. Within a failed transaction nothing is usable, which
    `SELECT 1` would say too.
    """

    def is_usable(self) -> bool:
        link: Any = self.connection
        if link is None or link.closed or link.info.transaction_status == TransactionStatus.INERROR:
            return False
        poll = select.poll()
        poll.register(link.fileno(), select.POLLIN)
        return not poll.poll(0) or bool(super().is_usable())
