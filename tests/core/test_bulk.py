"""Values that are rendered as text arrive as they were."""

import enum
import json
from datetime import UTC, datetime, time
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import connection

from apps.core import bulk

NASTY = [
    "",
    "plain",
    "NULL",
    "\\N",
    "\\.",
    "a\tb\nc\rd",
    "back\\slash\\t",
    "say \"no\", {maybe}, 'so'",
    '{"a": "\\u00e9\\n", "b": [1, "\\\\"]}',
    "Zürich €",
    None,
]


class Colour(enum.StrEnum):
    RED = "red"


@pytest.fixture
def table(db: None) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE bulk_probe (id uuid, word text, amount numeric(78,0), at timestamptz,"
            " wall time, days smallint[], flag boolean) ON COMMIT DROP"
        )
    return "bulk_probe"


def test_inserted_values_arrive_as_they_were(table: str) -> None:
    ids = [uuid4() for _ in NASTY]
    at = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)
    amounts = [10**77 + number for number in range(len(NASTY))]

    written = bulk.insert(
        table,
        {
            "id": ids,
            "word": NASTY,
            "amount": amounts,
            "at": [at] * len(ids),
            "wall": [time(9, 30)] * len(ids),
            "days": [[1, 5]] * len(ids),
            "flag": [number % 2 == 0 for number in range(len(ids))],
        },
    )

    assert written == len(NASTY)
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, word, amount, at, wall, days, flag FROM bulk_probe ORDER BY amount")
        found = cursor.fetchall()
    assert found == [
        (pk, word, Decimal(units), at, time(9, 30), [1, 5], number % 2 == 0)
        for number, (pk, word, units) in enumerate(zip(ids, NASTY, amounts, strict=True))
    ]


def test_updated_values_arrive_as_they_were(table: str) -> None:
    ids = [uuid4() for _ in NASTY]
    bulk.insert(table, {"id": ids, "word": ["before"] * len(ids), "amount": [5] * len(ids)})

    changed = bulk.update(
        table,
        ids,
        {"word": ("text", NASTY), "amount": ("numeric", [None, *range(1, len(ids))])},
        operators={"amount": "-"},
    )

    assert changed == len(ids)
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, word, amount FROM bulk_probe")
        found = {row[0]: row[1:] for row in cursor.fetchall()}
    assert found == {
        pk: (word, None if number == 0 else Decimal(5 - number))
        for number, (pk, word) in enumerate(zip(ids, NASTY, strict=True))
    }


def test_json_is_joined_with_what_is_there(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE bulk_facts (id uuid, facts jsonb) ON COMMIT DROP")
    ids = [uuid4(), uuid4()]
    bulk.insert("bulk_facts", {"id": ids, "facts": ['{"kept": 1, "said": "before"}', "{}"]})

    bulk.update(
        "bulk_facts", ids, {"facts": ("jsonb", ['{"said": "now"}', '{"new": 2}'])}, operators={"facts": "||"}
    )

    with connection.cursor() as cursor:
        cursor.execute("SELECT facts FROM bulk_facts ORDER BY facts ? 'new'")
        assert [json.loads(row[0]) for row in cursor.fetchall()] == [{"kept": 1, "said": "now"}, {"new": 2}]


def test_an_enum_is_written_as_its_value_and_a_float_is_refused(table: str) -> None:
    bulk.insert(table, {"word": [Colour.RED, "blue", None]})

    with connection.cursor() as cursor:
        cursor.execute("SELECT word FROM bulk_probe ORDER BY word")
        assert [row[0] for row in cursor.fetchall()] == ["blue", "red", None]
    with pytest.raises(TypeError):
        bulk.insert(table, {"amount": [1.5, 2.5]})
    with pytest.raises(TypeError):
        bulk.insert(table, {"amount": [1.5] * 3})
