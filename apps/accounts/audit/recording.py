"""Writing a record: one statement, in the caller's transaction."""

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, models

from apps.accounts.audit.origin import origin_read
from apps.core import clock
from apps.core.ids import uuid7

# Whatever a caller passes, values under such names are not written: this log is read by many, and for ever.
_SECRET = re.compile(
    r"password|secret|passphrase|mnemonic|xprv|private|cipher|otp|^(access|refresh)?_?token$|^url$|^key$"
)
MASKED = "[not shown]"
_TEXT_MAX = 2_000
_INTEGER_MAX = 2**53

_INSERT = (
    "INSERT INTO accounts_auditrecord (id, occurred_at, actor_id, actor_name, via, action, target_type, target_id,"
    " before, after, address, request_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


def audit_record(
    *,
    actor: models.Model | UUID | str | None,
    action: str,
    target_type: str,
    target_id: object,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    request: Any = None,
) -> UUID:
    """Write down that `actor` did `action` to a target; returns the record's id.

    `actor` is a user (or their id), the name of a part of the platform, or None for somebody unknown. `before` and
    `after` need hold only what changed; money in them is base units or text, secrets are masked by name. Address,
    request and credential come from `request`, else from the request that is being answered.

    Must run inside the transaction of the change. One statement, no lock that anybody else could wait for.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("an audit record belongs in the transaction of the change it tells of")
    origin = origin_read(request)
    now = clock.now()
    record_id = uuid7(now)
    person = actor.pk if isinstance(actor, models.Model) else actor if isinstance(actor, UUID) else None
    name = actor[:120] if isinstance(actor, str) else ""
    values = [
        record_id, now, person, name, origin.via[:64], action[:80], target_type[:64], str(target_id)[:64],
        _json(before), _json(after), origin.address, origin.request_id,
    ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
    return record_id


def _json(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else orjson.dumps(_plain(values), option=orjson.OPT_SORT_KEYS).decode()


def email_hint(email: str) -> str:
    """`a…@example.org`: enough to recognise one's own, in a log that outlives the account."""
    name, _, domain = email.partition("@")
    return f"{name[:1]}…@{domain}"


def _plain(value: Any, name: str = "") -> Any:
    """The value as JSON that loses nothing: whole numbers beyond 53 bits as text, nothing as a float."""
    if isinstance(value, Mapping):
        return {str(key)[:80]: _plain(one, str(key)) for key, one in value.items()}
    if value is None or isinstance(value, bool):
        return value
    if _SECRET.search(name.lower()):
        return MASKED
    if isinstance(value, int):
        return int(value) if abs(value) <= _INTEGER_MAX else str(int(value))
    if isinstance(value, list | tuple | set | frozenset | models.QuerySet):
        return [
            _plain(one, name)
            for one in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)
        ]
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, models.Model):
        value = value.pk
    elif isinstance(value, Decimal):
        value = format(value, "f")
    elif isinstance(value, bytes | bytearray | memoryview):
        return MASKED
    # PostgreSQL's jsonb has no NUL.
    return str(value).replace("\x00", "\N{REPLACEMENT CHARACTER}")[:_TEXT_MAX]
