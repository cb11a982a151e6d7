"""Encrypted columns: which there are, under which keys their rows lie, and moving them to the first key.

An app declares each of its encrypted columns once, beside the model, and encrypts and decrypts through what it
gets back, so that rotation finds what the app writes. Source: design.md, "Secrets" (rotation re-encrypts online).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from psycopg import sql

from apps.core.crypto import DecryptionError, decrypt, encrypt, header
from apps.core.failpoints import reach

BATCH = 500


@dataclass(frozen=True)
class EncryptedColumn:
    """A bytea column of a table with a UUID `id`; `keyring` names the setting that holds its keys."""

    table: str
    column: str
    keyring: str = "ENCRYPTION_KEYS"

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"

    @property
    def keys(self) -> dict[str, bytes]:
        """Keys by id, the first encrypts; empty in a process that is not given them."""
        found: dict[str, bytes] = getattr(settings, self.keyring)
        return found

    def place(self, pk: UUID) -> str:
        return f"{self.table}.{self.column}.{pk}"

    def encrypt(self, plaintext: bytes, *, pk: UUID) -> bytes:
        """What to store in the row `pk`. Raises `DecryptionError` in a process without the keys."""
        return encrypt(plaintext, keys=self.keys, place=self.place(pk))

    def decrypt(self, ciphertext: bytes, *, pk: UUID) -> bytes:
        """The plaintext of the row `pk`; raises `DecryptionError`."""
        return decrypt(ciphertext, keys=self.keys, place=self.place(pk))


_columns: dict[str, EncryptedColumn] = {}


def encrypted_column(table: str, column: str, *, keyring: str = "ENCRYPTION_KEYS") -> EncryptedColumn:
    """Declare an encrypted column; the line stands beside the model, so that every process knows it."""
    made = EncryptedColumn(table, column, keyring)
    return _columns.setdefault(str(made), made)


def columns() -> list[EncryptedColumn]:
    return [_columns[name] for name in sorted(_columns)]


@dataclass(frozen=True)
class KeyStatus:
    """Rows by key id (`""`: no ciphertext of ours). `unknown` are the ids whose key this process lacks.

    A process without the whole keyring can count and cannot judge: `present` is false and `unknown` empty.
    """

    column: EncryptedColumn
    present: bool
    rows: dict[str, int]
    unknown: tuple[str, ...]


def keys_status() -> list[KeyStatus]:
    """Every column's rows per key id: one scan of each table, no key is used."""
    found = []
    for column in columns():
        rows = _count(column)
        unknown = tuple(key_id for key_id in rows if key_id not in column.keys) if column.keys else ()
        found.append(KeyStatus(column, bool(column.keys), rows, unknown))
    return found


@dataclass
class Rotated:
    """What a run did to one column: rows moved, and per untouched row why (`table.column.id: reason`)."""

    column: EncryptedColumn
    moved: int
    refused: list[str]


def keys_rotate(*, batch: int = BATCH) -> Iterator[Rotated]:
    """Re-encrypt under the first key what lies under another, column by column; skips keyrings not given here.

    While everything runs: each batch is a transaction of its own that locks its rows, so that a concurrent writer
    is waited for and read, never overwritten. Killed anywhere, a row is whole under one key or the other, and the
    next run goes on. A row that does not decrypt in its place is reported and left as it is.
    """
    for column in columns():
        if not column.keys:
            continue
        done, after = Rotated(column, 0, []), UUID(int=0)
        while (last := _rotate_batch(column, after=after, batch=batch, done=done)) is not None:
            after = last
        yield done


def _rotate_batch(column: EncryptedColumn, *, after: UUID, batch: int, done: Rotated) -> UUID | None:
    """One transaction; answers the last id looked at, or None when there was nothing left to look at."""
    first = header(next(iter(column.keys)))
    with transaction.atomic(), connection.cursor() as cursor:
        # The key id is looked at again after the wait for a lock: what a writer has just encrypted is left alone.
        cursor.execute(
            _sql(
                "SELECT id, {column} FROM {table} WHERE id > %s AND {column} IS NOT NULL"
                " AND substring({column} FROM 1 FOR %s) <> %s ORDER BY id LIMIT %s FOR NO KEY UPDATE",
                column,
            ),
            [after, len(first), first, batch],
        )
        found: list[tuple[UUID, bytes]] = [(pk, bytes(ciphertext)) for pk, ciphertext in cursor.fetchall()]
        if not found:
            return None
        fresh = {}
        for pk, ciphertext in found:
            try:
                fresh[pk] = (ciphertext, column.encrypt(column.decrypt(ciphertext, pk=pk), pk=pk))
            except DecryptionError as error:
                done.refused.append(f"{column.place(pk)}: {error}")
        reach("core.keys.rotate.before_update")
        # Compare and swap: only the bytes that were decrypted are replaced, whatever the lock was worth.
        cursor.execute(
            _sql(
                "UPDATE {table} AS t SET {column} = new.made FROM unnest(%s::uuid[], %s::bytea[], %s::bytea[])"
                " AS new (id, was, made) WHERE t.id = new.id AND t.{column} = new.was",
                column,
            ),
            [list(fresh), [was for was, _ in fresh.values()], [made for _, made in fresh.values()]],
        )
        moved = cursor.rowcount
        reach("core.keys.rotate.before_commit")
    done.moved += moved
    reach("core.keys.rotate.after_commit")
    return found[-1][0]


def _count(column: EncryptedColumn) -> dict[str, int]:
    # The layout is in apps.core.crypto: version 1, length of the key id, key id.
    statement = _sql(
        "SELECT CASE WHEN length({column}) < 3 THEN NULL WHEN get_byte({column}, 0) <> 1 THEN NULL"
        " ELSE substring({column} FROM 3 FOR get_byte({column}, 1)) END AS key_id, count(*)"
        " FROM {table} WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY 1",
        column,
    )
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return {
            "" if key_id is None else bytes(key_id).decode(errors="replace"): rows
            for key_id, rows in cursor.fetchall()
        }


def _sql(template: Any, column: EncryptedColumn) -> sql.Composed:
    names = {"table": sql.Identifier(column.table), "column": sql.Identifier(column.column)}
    return sql.SQL(template).format(**names)
