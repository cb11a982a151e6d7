"""Keyset pages on (created_at, id), newest first: no OFFSET, no COUNT, stable while rows arrive."""

import base64
import binascii
import hmac
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import models
from django.db.models.expressions import Func
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from apps.core.api.problems import ProblemError

RowT = TypeVar("RowT")
LIMIT_DEFAULT = 50
LIMIT_MAX = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAC_BYTES = 12

PAGE_PARAMETERS = [
    OpenApiParameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}
    ),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]


@dataclass(frozen=True)
class Cursor:
    """The last row that the caller has seen."""

    created_at: datetime
    id: uuid.UUID


@dataclass(frozen=True)
class PageQuery:
    """What the query string asked for."""

    limit: int = LIMIT_DEFAULT
    cursor: Cursor | None = None


@dataclass(frozen=True)
class Page(Generic[RowT]):
    """Up to `limit` rows, and where the next ones begin (`None` at the end)."""

    rows: list[RowT]
    next: Cursor | None


def _mac(payload: bytes, scope: str) -> bytes:
    # The scope keeps one list's cursor out of another list, where its position would mean something else.
    key = settings.SECRET_KEY.encode()
    return hmac.digest(key, b"tranche.cursor\0" + scope.encode() + b"\0" + payload, sha256)[:_MAC_BYTES]


def cursor_encode(cursor: Cursor, *, scope: str) -> str:
    """An opaque, signed, URL-safe text."""
    micros = (cursor.created_at - _EPOCH) // _MICROSECOND
    payload = micros.to_bytes(8, "big", signed=True) + cursor.id.bytes
    return base64.urlsafe_b64encode(payload + _mac(payload, scope)).decode()


def cursor_decode(text: str, *, scope: str) -> Cursor:
    """Raises `ProblemError` `invalid_cursor` (400) for whatever this list did not issue."""
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raw = b""
    payload, mac = raw[:24], raw[24:]
    if len(raw) != 24 + _MAC_BYTES or not hmac.compare_digest(mac, _mac(payload, scope)):
        error = {"parameter": "cursor", "code": "invalid_cursor", "detail": "Not a cursor of this list."}
        raise ProblemError("invalid_cursor", errors=[error])
    micros = int.from_bytes(payload[:8], "big", signed=True)
    return Cursor(_EPOCH + micros * _MICROSECOND, uuid.UUID(bytes=payload[8:]))


class _RowCompare(Func):
    """`(a, b) < (x, y)`: PostgreSQL walks an index on (a, b) with a row comparison, not with its OR form."""

    conditional = True
    output_field = models.BooleanField()

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> Any:  # type: ignore[override]
        del connection
        parts, params = [], []
        for expression in self.get_source_expressions():
            sql, values = compiler.compile(expression)
            parts.append(sql)
            params += values
        return f"({parts[0]}, {parts[1]}) {self.extra['sign']} ({parts[2]}, {parts[3]})", params


def keyset_page(queryset: models.QuerySet[Any], *, query: PageQuery, descending: bool = True) -> Page[Any]:
    """One page of `queryset` by (created_at, id) in one query; the table needs an index that ends so."""
    sign = "-" if descending else ""
    rows = queryset.order_by(f"{sign}created_at", f"{sign}id")
    if query.cursor is not None:
        rows = rows.filter(
            _RowCompare(
                models.F("created_at"),
                models.F("id"),
                models.Value(query.cursor.created_at, output_field=models.DateTimeField()),
                models.Value(query.cursor.id, output_field=models.UUIDField()),
                sign="<" if descending else ">",
            )
        )
    found = list(rows[: query.limit + 1])
    return page_cut(found, limit=query.limit, place=lambda row: Cursor(row.created_at, row.id))


def page_cut(found: list[RowT], *, limit: int, place: Callable[[RowT], Cursor]) -> Page[RowT]:
    """A page from `limit + 1` fetched rows; for selectors that write their own SQL."""
    rows = found[:limit]
    return Page(rows, place(rows[-1]) if len(found) > limit and rows else None)


@cache
def paged(item: type[serializers.BaseSerializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The serializer class of a page of `item`, for the OpenAPI document."""
    name = item.__name__.removesuffix("Serializer")
    fields = {
        "data": item(many=True),
        "next_cursor": serializers.CharField(allow_null=True, help_text="`null` on the last page."),
    }
    return type(f"{name}PageSerializer", (serializers.Serializer,), fields)
