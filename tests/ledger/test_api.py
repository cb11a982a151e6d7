"""Balances and statements over HTTP."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from apps.core import clock
from apps.ledger.domain import AccountKey, AccountKind
from apps.ledger.services import accounts_open
from tests.core.api.support import ApiClient, problem, user_with_key
from tests.ledger.conftest import Book, make_book

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(db: None) -> tuple[Book, ApiClient]:
    """Ann with 1,000.5 of an asset with 6 decimals, of which 0.25 are held."""
    user, client = user_with_key("ann@example.org")
    book = make_book("USDX")
    keys = [AccountKey(kind, book.asset.id, user.id) for kind in (AccountKind.AVAILABLE, AccountKind.HELD)]
    found = accounts_open(keys=keys)
    book.available.append(found[keys[0]])
    book.held.append(found[keys[1]])
    book.post((book.custody, -1_000_500_000), (book.available[0], 1_000_500_000), reference="deposit")
    book.post((book.available[0], -250_000), (book.held[0], 250_000), reference="hold")
    return book, client


def test_balances_are_decimal_strings_and_units(ann: tuple[Book, ApiClient]) -> None:
    _, client = ann

    response = client.get("/api/v1/balances")

    assert response.status_code == 200
    assert json.loads(response.content) == {
        "as_of": None,
        "data": [
            {
                "asset": "USDX",
                "decimals": 6,
                "available": "1000.25",
                "available_units": "1000250000",
                "held": "0.25",
                "held_units": "250000",
                "total": "1000.5",
                "total_units": "1000500000",
            }
        ],
    }


def test_balances_take_a_fixed_number_of_queries(
    ann: tuple[Book, ApiClient], django_assert_num_queries: Callable[[int], Any]
) -> None:
    """The key's look-up and the balances; however many assets."""
    _, client = ann
    client.get("/api/v1/balances")

    with django_assert_num_queries(2):
        client.get("/api/v1/balances")


def test_balances_as_of_an_instant(ann: tuple[Book, ApiClient]) -> None:
    _, client = ann
    before = clock.now() - timedelta(days=1)

    response = client.get("/api/v1/balances", {"as_of": before.isoformat()})

    answer = json.loads(response.content)
    assert answer["as_of"] == before.isoformat().replace("+00:00", "Z")
    assert [(row["available"], row["held"], row["total_units"]) for row in answer["data"]] == [
        ("0", "0", "0")
    ]


def test_a_statement_goes_back_page_by_page(ann: tuple[Book, ApiClient]) -> None:
    _, client = ann

    first = json.loads(client.get("/api/v1/statement", {"asset": "USDX", "limit": "1"}).content)
    rest = json.loads(
        client.get(
            "/api/v1/statement", {"asset": "USDX", "limit": "1", "cursor": first["next_cursor"]}
        ).content
    )

    assert [
        (row["reference"], row["amount"], row["amount_units"], row["balance"], row["balance_units"])
        for row in first["data"] + rest["data"]
    ] == [
        ("hold", "-0.25", "-250000", "1000.25", "1000250000"),
        ("deposit", "1000.5", "1000500000", "1000.5", "1000500000"),
    ]
    assert rest["next_cursor"] is None


def test_a_statement_of_what_is_held(ann: tuple[Book, ApiClient]) -> None:
    _, client = ann

    answer = json.loads(client.get("/api/v1/statement", {"asset": "USDX", "account": "held"}).content)

    assert [(row["reference"], row["amount"]) for row in answer["data"]] == [("hold", "0.25")]


def test_somebody_else_sees_nothing_of_it(ann: tuple[Book, ApiClient]) -> None:
    _, other = user_with_key("bob@example.org")

    assert json.loads(other.get("/api/v1/balances").content) == {"as_of": None, "data": []}
    assert json.loads(other.get("/api/v1/statement", {"asset": "USDX"}).content) == {
        "data": [], "next_cursor": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "query", "code", "errors"),
    [
        ("balances", {"as_of": "yesterday"}, "validation_failed", [("as_of", "no_offset")]),
        ("balances", {"as_of": "2026-01-01T00:00:00"}, "validation_failed", [("as_of", "no_offset")]),
        ("balances", {"asof": "x"}, "validation_failed", [("asof", "unknown_field")]),
        ("statement", {}, "validation_failed", [("asset", "required")]),
        ("statement", {"asset": "NOPE"}, "validation_failed", [("asset", "unknown_asset")]),
        ("statement", {"asset": "x" * 500}, "validation_failed", [("asset", "unknown_asset")]),
        ("statement", {"asset": "USDX", "limit": "0"}, "validation_failed", [("limit", "min_value")]),
        ("statement", {"asset": "USDX", "limit": "101"}, "validation_failed", [("limit", "max_value")]),
        ("statement", {"asset": "USDX", "limit": "ten"}, "validation_failed", [("limit", "invalid")]),
        (
            "statement",
            {"asset": "USDX", "account": "custody"},
            "validation_failed",
            [("account", "invalid_choice")],
        ),
        ("statement", {"asset": "USDX", "cursor": "AAAA"}, "invalid_cursor", [("cursor", "invalid_cursor")]),
    ],
)
def test_bad_queries_are_refused(
    ann: tuple[Book, ApiClient], path: str, query: dict[str, str], code: str, errors: list[tuple[str, str]]
) -> None:
    _, client = ann

    problem(client.get(f"/api/v1/{path}", query), 400, code, errors=errors)


@pytest.mark.parametrize("path", ["/api/v1/balances", "/api/v1/statement"])
def test_reading_needs_a_key_with_the_scope_and_writing_is_not_there(db: None, path: str) -> None:
    _, client = user_with_key(scopes=["plans:read"])

    problem(ApiClient().get(path), 401, "not_authenticated")
    problem(client.get(path), 403, "insufficient_scope")
    problem(client.post(path, {}), 405, "method_not_allowed")
