"""Set-based writes: thousands of rows in one statement, for the hot paths that the ORM would take row by row."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection
from psycopg import sql


def insert(table: str, columns: Mapping[str, Sequence[Any]]) -> int:
    """COPY rows into `table`; `columns` maps each column to its values, all of one length. Returns the count.

    Constraints and triggers apply as for INSERT. JSON values are passed as text.
    """
    rows = list(zip(*columns.values(), strict=True))
    if not rows:
        return 0
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    # Django wraps the errors of `execute` by itself, not those of `copy`.
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
    return len(rows)


def update(
    table: str,
    ids: Sequence[Any],
    columns: Mapping[str, tuple[str, Sequence[Any]]],
    *,
    constants: Mapping[str, Any] | None = None,
    signs: Mapping[str, int] | None = None,
    also: str = "",
    where: str = "",
) -> int:
    """Update rows by id in one statement; returns how many rows changed.

    `columns` maps a column to its SQL type and one value per id; a column in `signs` is not set but raised (+1)
    or lowered (-1) by its value; `constants` sets the same value in every row;
    `also` is further literal SQL for the SET list, `where` a further literal condition (alias `t`), both written
    in code and never from input.
    """
    if not ids:
        return 0
    forms = {None: "{0} = new.{0}", 1: "{0} = t.{0} + new.{0}", -1: "{0} = t.{0} - new.{0}"}
    assignments = [sql.SQL(forms[(signs or {}).get(name)]).format(sql.Identifier(name)) for name in columns]
    parameters: list[Any] = []
    for name, value in (constants or {}).items():
        assignments.append(sql.SQL("{} = %s").format(sql.Identifier(name)))
        parameters.append(value)
    if also:
        assignments.append(sql.SQL(also))  # type: ignore[arg-type]
    arrays = [sql.SQL("%s::uuid[]")] + [sql.SQL("%s::" + kind + "[]") for kind, _ in columns.values()]
    names = [sql.Identifier("id"), *map(sql.Identifier, columns)]
    statement = sql.SQL("UPDATE {} AS t SET {} FROM unnest({}) AS new ({}) WHERE t.id = new.id {}").format(
        sql.Identifier(table),
        sql.SQL(", ").join(assignments),
        sql.SQL(", ").join(arrays),
        sql.SQL(", ").join(names),
        sql.SQL(f"AND {where}" if where else ""),
    )
    parameters += [list(ids), *(list(values) for _, values in columns.values())]
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)
