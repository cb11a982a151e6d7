"""Monthly range partitions on a UUIDv7 primary key, made ahead by a beat job.

A table joins by calling `register(table)`; its migration creates it `PARTITION BY RANGE (id)` with a default
partition, so that an insert never fails for want of a partition. Rows in the default partition are an alert.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from django.db import connection, transaction
from psycopg import sql

from apps.core import clock
from apps.core.ids import uuid7_floor

_tables: dict[str, Callable[[str], list[str]] | None] = {}


def register(table: str, *, on_create: Callable[[str], list[str]] | None = None) -> None:
    """Manage `table`; `on_create(partition)` gives extra SQL for each new partition (its triggers)."""
    _tables[table] = on_create


def _month(at: datetime, offset: int) -> datetime:
    index = at.year * 12 + at.month - 1 + offset
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


def ensure(
    *, months_ahead: int = 3, at: datetime | None = None, tables: Collection[str] | None = None
) -> list[str]:
    """Create the partitions from last month to `months_ahead`; returns the names that were new.

    `tables` narrows it to some of the registered ones: a migration makes those of its own table.

    Safe to run at any time and twice at once (advisory lock). A month whose rows already sit in the default
    partition is left there: PostgreSQL refuses the overlap, and moving rows is an operator's decision.
    """
    moment = at or clock.now()
    created = []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('core.partitions'))")
        for table, on_create in _tables.items():
            if tables is not None and table not in tables:
                continue
            for offset in range(-1, months_ahead + 1):
                start, end = _month(moment, offset), _month(moment, offset + 1)
                name = f"{table}_{start:%Y_%m}"
                cursor.execute("SELECT to_regclass(%s)", [name])
                if cursor.fetchone()[0] is not None:
                    continue
                bounds = (uuid7_floor(start), uuid7_floor(end))
                cursor.execute(
                    sql.SQL("SELECT EXISTS (SELECT 1 FROM {} WHERE id >= %s AND id < %s)").format(
                        sql.Identifier(f"{table}_default")
                    ),
                    bounds,
                )
                if cursor.fetchone()[0]:
                    continue
                cursor.execute(
                    sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                        sql.Identifier(name),
                        sql.Identifier(table),
                        sql.Literal(str(bounds[0])),
                        sql.Literal(str(bounds[1])),
                    )
                )
                for statement in on_create(name) if on_create else []:
                    cursor.execute(statement)
                created.append(name)
    return created


def default_rows() -> dict[str, int]:
    """Rows per table that fell into a default partition: should be empty."""
    found = {}
    with connection.cursor() as cursor:
        for table in _tables:
            cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(f"{table}_default")))
            count = cursor.fetchone()[0]
            if count:
                found[table] = count
    return found
