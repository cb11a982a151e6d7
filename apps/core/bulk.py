"""Set-based writes: thousands of rows in one statement, for the hot paths that the ORM would take row by row.

Values are rendered here, column by column, as the text that PostgreSQL reads: the driver would look at each value
by itself, which for thousands of rows takes longer than the database needs to store them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import connection
from psycopg import sql

_PLAIN: dict[type, Callable[[Any], str]] = {
    UUID: attrgetter("hex"),
    int: str,
    bool: str,
    Decimal: str,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
}


def uuids(ids: Iterable[UUID]) -> str:
    """An array literal for `%s::uuid[]`."""
    return "{" + ",".join([one.hex for one in ids]) + "}"


def array(values: Sequence[Any]) -> str:
    """An array literal of scalars (with a cast to the column's type); None is NULL. `TypeError` for other types."""
    return "{" + ",".join(_rendered(values, text=_array_text, null="NULL")) + "}"


def insert(table: str, columns: Mapping[str, Sequence[Any]]) -> int:
    """COPY rows into `table`; `columns` maps each column to its values, all of one length. Returns the count.

    Constraints and triggers apply as for INSERT. JSON values are passed as text. Raises `TypeError` for a value of
    a type that has no single text form, a float among them.
    """
    rendered = [_rendered(values, text=_copy_text, null="\\N") for values in columns.values()]
    rows = list(map("\t".join, zip(*rendered, strict=True)))
    if not rows:
        return 0
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    # Django wraps the errors of `execute` by itself, not those of `copy`.
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(statement.as_string()) as copy,
    ):
        copy.write("\n".join(rows) + "\n")
    return len(rows)


def _rendered(values: Sequence[Any], *, text: Callable[[str], str], null: str) -> Sequence[str]:
    """The values of one column as text. What is the same object in every row is rendered once."""
    if not values:
        return []
    first = values[0]
    if all(value is first for value in values):
        return [_one(first, text, null)] * len(values)
    kinds = set(map(type, values))
    if len(kinds) == 1:
        (kind,) = kinds
        plain = text if kind is str else _PLAIN.get(kind)
        if plain is not None:
            return list(map(plain, values))
    return [_one(value, text, null) for value in values]


def _one(value: Any, text: Callable[[str], str], null: str) -> str:
    if value is None:
        return null
    if isinstance(value, str):  # before the exact types: an enum of strings is one
        return text(str(value))
    plain = _PLAIN.get(type(value))
    if plain is not None:
        return plain(value)
    if isinstance(value, list | tuple):
        return text(array(value))
    raise TypeError(f"no text form for {type(value).__name__}")


def _array_text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _copy_text(value: str) -> str:
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    # JSON and names hardly ever hold one of these; looking is cheaper than translating.
    if "\t" in value or "\n" in value or "\r" in value:
        value = value.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return value


def update(
    table: str,
    ids: Sequence[Any],
    columns: Mapping[str, tuple[str, Sequence[Any]]],
    *,
    constants: Mapping[str, Any] | None = None,
    operators: Mapping[str, str] | None = None,
    also: str = "",
    where: str = "",
) -> int:
    """Update rows by id in one statement; returns how many rows changed.

    `columns` maps a column to its SQL type and one value per id; `operators` names those that are not set but joined
    with what is there: `+` and `-` for numbers, `||` for JSON objects; `constants` sets the same value in every row;
    `also` is further literal SQL for the SET list, `where` a further literal condition (alias `t`), all three written
    in code and never from input.
    """
    if not ids:
        return 0
    joined = {name: f"{{0}} = t.{{0}} {operator} new.{{0}}" for name, operator in (operators or {}).items()}
    assignments = [
        sql.SQL(joined.get(name, "{0} = new.{0}")).format(sql.Identifier(name)) for name in columns
    ]
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
    parameters += [uuids(ids), *(array(values) for _, values in columns.values())]
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)
