"""Keyset pages: complete, stable, one query by index, and cursors that cannot be made by hand."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import ApiKey, User
from apps.accounts.services import user_create
from apps.core.api.pagination import Cursor, PageQuery, cursor_decode, cursor_encode, keyset_page
from apps.core.api.problems import ProblemError
from tests.core.api.support import problem, user_with_key

START = datetime(2026, 3, 1, 9, tzinfo=UTC)


def keys_make(user: User, count: int, *, same_instant: int = 3) -> list[UUID]:
    """Keys of which every `same_instant` share an instant; newest first."""
    rows = ApiKey.objects.bulk_create(
        ApiKey(
            user=user,
            name=f"k{number}",
            prefix=f"p{number:011d}",
            secret_hash="0" * 64,
            scopes=["plans:read"],
            created_at=START + timedelta(seconds=number // same_instant),
        )
        for number in range(count)
    )
    return [row.id for row in sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)]


@pytest.mark.django_db
@pytest.mark.parametrize("limit", [1, 2, 7, 20, 100])
def test_pages_give_every_row_once_in_order(limit: int) -> None:
    user = user_create(email="ann@example.org")
    expected = keys_make(user, 20)
    found, query = [], PageQuery(limit=limit)
    while True:
        page = keyset_page(ApiKey.objects.filter(user=user), query=query)
        found += [row.id for row in page.rows]
        if page.next is None:
            break
        query = PageQuery(limit=limit, cursor=page.next)
    assert found == expected
    ascending = keyset_page(ApiKey.objects.filter(user=user), query=PageQuery(limit=100), descending=False)
    assert [row.id for row in ascending.rows] == expected[::-1]


@pytest.mark.django_db
def test_row_that_arrives_between_pages_disturbs_nothing() -> None:
    user = user_create(email="ann@example.org")
    expected = keys_make(user, 6, same_instant=1)
    first = keyset_page(ApiKey.objects.all(), query=PageQuery(limit=3))
    ApiKey.objects.create(
        user=user,
        name="new",
        prefix="new",
        secret_hash="0" * 64,
        scopes=[],
        created_at=START + timedelta(days=1),
    )
    second = keyset_page(ApiKey.objects.all(), query=PageQuery(limit=3, cursor=first.next))
    assert [row.id for row in (*first.rows, *second.rows)] == expected


@pytest.mark.django_db
def test_page_is_one_query_that_walks_the_index() -> None:
    user = user_create(email="ann@example.org")
    keys_make(user, 400)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE accounts_apikey")
        cursor.execute("SET LOCAL enable_seqscan = off")
    place = Cursor(START + timedelta(seconds=50), UUID(int=0))
    with CaptureQueriesContext(connection) as queries:
        keyset_page(ApiKey.objects.filter(user=user), query=PageQuery(limit=5, cursor=place))
    assert len(queries) == 1
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + queries[0]["sql"])
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Scan Backward using accounts_apikey_listing" in plan
    assert "ROW(created_at, id) < ROW(" in plan
    assert "Sort" not in plan


def test_cursor_round_trip_keeps_the_microsecond() -> None:
    cursor = Cursor(datetime(2026, 3, 1, 9, 0, 0, 123457, tzinfo=UTC), UUID(int=5))
    assert cursor_decode(cursor_encode(cursor, scope="a"), scope="a") == cursor
    with pytest.raises(ProblemError):
        cursor_decode(cursor_encode(cursor, scope="a"), scope="b")


def test_every_changed_bit_is_refused() -> None:
    raw = base64.urlsafe_b64decode(cursor_encode(Cursor(START, UUID(int=5)), scope="a"))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(ProblemError):
            cursor_decode(base64.urlsafe_b64encode(bytes(changed)).decode(), scope="a")


@pytest.mark.django_db
@pytest.mark.parametrize("cursor", ["x", "!!!!", "A" * 48, "ünï", "a" * 100, "%00", "null"])
def test_bad_cursor(cursor: str) -> None:
    _, client = user_with_key()
    problem(
        client.get("/api/v1/api-keys", {"cursor": cursor}),
        400,
        "invalid_cursor",
        errors=[("cursor", "invalid_cursor")],
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ({"limit": "0"}, [("limit", "min_value")]),
        ({"limit": "101"}, [("limit", "max_value")]),
        ({"limit": "-1"}, [("limit", "min_value")]),
        ({"limit": "ten"}, [("limit", "invalid")]),
        ({"limit": "1.0"}, [("limit", "invalid")]),
        ({"limit": ""}, [("limit", "invalid")]),
        ({"limit": "9" * 400}, [("limit", "invalid")]),
        ({"limit": ["1", "2"]}, [("limit", "repeated")]),
        ({"offset": "1"}, [("offset", "unknown_field")]),
        ({"cursor": ""}, [("cursor", "blank")]),
        ({"cursor": "a" * 101}, [("cursor", "max_length")]),
        ({"cursor": "a\0b"}, [("cursor", "null_characters_not_allowed")]),
    ],
)
def test_bad_page_query(query: dict[str, object], errors: list[tuple[str, str]]) -> None:
    _, client = user_with_key()
    problem(client.get("/api/v1/api-keys", query), 400, "validation_failed", errors=errors)
