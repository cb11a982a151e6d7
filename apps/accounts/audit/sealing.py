"""The chain: what a seal is computed from, and the job that sets seals."""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, transaction

from apps.core import bulk

# What link 1 continues.
GENESIS = bytes(32)
_LOCK = "accounts.audit_seal"

# jsonb and inet as text: as PostgreSQL keeps them, whatever a driver would make of them.
COLUMNS = (
    "record.id, record.occurred_at, record.actor_id, record.actor_name, record.via, record.action,"
    " record.target_type, record.target_id, record.before::text, record.after::text, host(record.address),"
    " record.request_id"
)


def record_digest(row: Sequence[Any]) -> bytes:
    """SHA-256 of a record (`COLUMNS`), as a JSON array of its columns' texts and nulls."""
    texts = [None if value is None else _text(value) for value in row]
    return sha256(orjson.dumps(texts)).digest()


def _text(value: Any) -> str:
    return (
        value.astimezone(UTC).isoformat(timespec="microseconds")
        if isinstance(value, datetime)
        else str(value)
    )


def link_digest(previous: bytes, number: int, record: bytes) -> bytes:
    """SHA-256 over the seal before, this one's number (8 bytes, big-endian) and the record's digest."""
    return sha256(previous + number.to_bytes(8, "big") + record).digest()


def records_seal(*, limit: int = 1_000) -> int:
    """Seal up to `limit` committed records; returns how many. A second sealer meanwhile does nothing.

    Nobody who writes a record waits for this: it takes rows that are committed, and no lock that writers take.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(
            "DELETE FROM accounts_auditpending WHERE record_id IN"
            " (SELECT record_id FROM accounts_auditpending ORDER BY record_id LIMIT %s) RETURNING record_id",
            [limit],
        )
        ids: list[UUID] = sorted(row[0] for row in cursor.fetchall())
        if not ids:
            return 0
        cursor.execute("SELECT number, digest FROM accounts_auditseal ORDER BY number DESC LIMIT 1")
        number, digest = cursor.fetchone() or (0, GENESIS)
        cursor.execute(
            f"SELECT {COLUMNS} FROM accounts_auditrecord AS record WHERE record.id = ANY(%s::uuid[])",
            [bulk.uuids(ids)],
        )
        digests = {row[0]: record_digest(row) for row in cursor.fetchall()}
        links = []
        for record_id in ids:
            number += 1
            # A record that somebody removed meanwhile keeps its number, and every check says that it is gone.
            digest = link_digest(bytes(digest), number, digests.get(record_id, GENESIS))
            links.append((number, record_id, digest))
        cursor.execute(
            "INSERT INTO accounts_auditseal (number, record_id, digest)"
            " SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::bytea[])",
            [bulk.array([one[0] for one in links]), bulk.uuids(ids), [one[2] for one in links]],
        )
    return len(links)


def records_seal_all() -> int:
    """Seal what waits, a chunk at a time."""
    total = 0
    while count := records_seal():
        total += count
    return total
