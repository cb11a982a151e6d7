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


# Before the first key of each type.
_BEFORE: dict[str, Any] = {"uuid": UUID(int=0), "bigint": 0, "text": ""}


@dataclass(frozen=True)
class EncryptedColumn:
    """A bytea column of a table with a UUID `id`; `keyring` names the setting that holds its keys."""

    table: str
    column: str
    keyring: str = "ENCRYPTION_KEYS"
    key: str = "id"
    key_type: str = "uuid"

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"

    @property
    def read(self) -> sql.Composable:
        """The ciphertext of a row as bytea; NULL for what is none."""
        return sql.Identifier("t", self.column)

    @property
    def held(self) -> sql.Composable:
        """Whether a row holds anything."""
        return sql.SQL("t.{column} IS NOT NULL").format(column=sql.Identifier(self.column))

    @property
    def written(self) -> sql.Composable:
        """What the column becomes for the ciphertext `new.made`."""
        return sql.SQL("new.made")

    @property
    def keys(self) -> dict[str, bytes]:
        """Keys by id, the first encrypts; empty in a process that is not given them."""
        found: dict[str, bytes] = getattr(settings, self.keyring)
        return found

    def place(self, pk: UUID) -> str:
        return f"{self.table}.{self.column}.{pk}"

    def named(self, pk: Any) -> str:
        """The row, for people; no secret."""
        return f"{self}.{pk}"

    def encrypt(self, plaintext: bytes, *, pk: UUID) -> bytes:
        """What to store in the row `pk`. Raises `DecryptionError` in a process without the keys."""
        return encrypt(plaintext, keys=self.keys, place=self.place(pk))

    def decrypt(self, ciphertext: bytes, *, pk: UUID) -> bytes:
        """The plaintext of the row `pk`; raises `DecryptionError`."""
        return decrypt(ciphertext, keys=self.keys, place=self.place(pk))


@dataclass(frozen=True)
class SealedText(EncryptedColumn):
    """Base64 in a package's own table, bound to the column only: the row is not there yet when it is encrypted.

    `member` is the one of a JSON object that holds it, else the whole text is it.
    """

    member: str = ""

    def __str__(self) -> str:
        return f"{super().__str__()}.{self.member}" if self.member else super().__str__()

    @property
    def read(self) -> sql.Composable:
        text = sql.SQL("(t.{column} ->> {member})" if self.member else "t.{column}").format(
            column=sql.Identifier(self.column), member=sql.Literal(self.member)
        )
        base64 = "'^([A-Za-z0-9+/]{{4}})*([A-Za-z0-9+/]{{2}}==|[A-Za-z0-9+/]{{3}}=)?$'"
        return sql.SQL(f"CASE WHEN {{text}} ~ {base64} THEN decode({{text}}, 'base64') END").format(text=text)

    @property
    def held(self) -> sql.Composable:
        if not self.member:
            return super().held
        return sql.SQL("t.{column} ->> {member} IS NOT NULL").format(
            column=sql.Identifier(self.column), member=sql.Literal(self.member)
        )

    @property
    def written(self) -> sql.Composable:
        # PostgreSQL breaks base64 into lines; nobody else here does.
        text = "translate(encode(new.made, 'base64'), E'\\n', '')"
        if not self.member:
            return sql.SQL(text)
        return sql.SQL("jsonb_set(t.{column}, {path}, to_jsonb(" + text + "))").format(
            column=sql.Identifier(self.column), path=sql.Literal([self.member])
        )

    def place(self, pk: Any) -> str:
        del pk
        return f"{self.table}.{self.column}"

    def named(self, pk: Any) -> str:
        # The key of a session may be a credential.
        return super().named(pk) if self.key_type == "bigint" else str(self)


_columns: dict[str, EncryptedColumn] = {}


def encrypted_column(table: str, column: str, *, keyring: str = "ENCRYPTION_KEYS") -> EncryptedColumn:
    """Declare an encrypted column; the line stands beside the model, so that every process knows it."""
    made = EncryptedColumn(table, column, keyring)
    return _columns.setdefault(str(made), made)


def sealed_text(table: str, column: str, *, key: str, key_type: str, member: str = "") -> SealedText:
    """Declare a text or JSON column of a package's table; `key` is its primary key of `key_type`."""
    made = SealedText(table, column, member=member, key=key, key_type=key_type)
    _columns[str(made)] = made
    return made


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
        done, after = Rotated(column, 0, []), _BEFORE[column.key_type]
        while (last := _rotate_batch(column, after=after, batch=batch, done=done)) is not None:
            after = last
        yield done


def _rotate_batch(column: EncryptedColumn, *, after: Any, batch: int, done: Rotated) -> Any:
    """One transaction; answers the last key looked at, or None when there was nothing left to look at."""
    first = header(next(iter(column.keys)))
    with transaction.atomic(), connection.cursor() as cursor:
        # The key id is looked at again after the wait for a lock: what a writer has just encrypted is left alone.
        cursor.execute(
            _sql(
                "SELECT {key}, {read} FROM {table} AS t WHERE {key} > %s AND {held}"
                " AND substring({read} FROM 1 FOR %s) IS DISTINCT FROM %s ORDER BY {key} LIMIT %s"
                " FOR NO KEY UPDATE",
                column,
            ),
            [after, len(first), first, batch],
        )
        found: list[tuple[Any, bytes]] = [(pk, bytes(text or b"")) for pk, text in cursor.fetchall()]
        if not found:
            return None
        fresh = {}
        for pk, ciphertext in found:
            try:
                fresh[pk] = (ciphertext, column.encrypt(column.decrypt(ciphertext, pk=pk), pk=pk))
            except DecryptionError as error:
                done.refused.append(f"{column.named(pk)}: {error}")
        reach("core.keys.rotate.before_update")
        # Compare and swap: only the bytes that were decrypted are replaced, whatever the lock was worth.
        cursor.execute(
            _sql(
                "UPDATE {table} AS t SET {column} = {written}"
                " FROM unnest(%s::{type}[], %s::bytea[], %s::bytea[]) AS new (pk, was, made)"
                " WHERE t.{key} = new.pk AND {read} = new.was",
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
        "SELECT CASE WHEN coalesce(length(made), 0) < 3 THEN NULL WHEN get_byte(made, 0) <> 1 THEN NULL"
        " ELSE substring(made FROM 3 FOR get_byte(made, 1)) END AS key_id, count(*)"
        " FROM (SELECT {read} AS made FROM {table} AS t WHERE {held}) AS held GROUP BY 1 ORDER BY 1",
        column,
    )
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return {
            "" if key_id is None else bytes(key_id).decode(errors="replace"): rows
            for key_id, rows in cursor.fetchall()
        }


def _sql(template: Any, column: EncryptedColumn) -> sql.Composed:
    names = {
        "table": sql.Identifier(column.table),
        "column": sql.Identifier(column.column),
        "key": sql.Identifier(column.key),
        "type": sql.SQL(column.key_type),
        "read": column.read,
        "written": column.written,
        "held": column.held,
    }
    return sql.SQL(template).format(**names)
