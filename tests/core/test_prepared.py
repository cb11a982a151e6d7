"""Statements that every request asks are planned once per session; whatever else goes through Django's cursors."""

import pytest
from django.db import DataError, connection, transaction

from apps.core.prepared import prepared
from tests.core.api.support import user_with_key


def kept(text: str) -> int:
    """How many statements like this one the session keeps."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s", [text])
        return int(cursor.fetchone()[0])


def doubled(number: int) -> int:
    with prepared() as cursor:
        cursor.execute("SELECT 2 * %s::bigint AS twice", [number])
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_a_statement_is_kept_whatever_its_values() -> None:
    assert [doubled(number) for number in (1, 2, 3)] == [2, 4, 6]

    assert kept("%AS twice%") == 1
    with connection.cursor() as cursor:
        for number in range(10):
            cursor.execute("SELECT 3 * %s AS thrice", [number])
    # This very question names it, too, but is not kept either.
    assert kept("%AS thrice%") == 0


@pytest.mark.django_db(transaction=True)
def test_it_is_there_again_after_a_rollback_and_on_a_new_connection() -> None:
    doubled(1)
    with transaction.atomic():
        doubled(2)
        transaction.set_rollback(True)
    assert doubled(3) == 6

    connection.close()
    assert doubled(4) == 8


@pytest.mark.django_db
def test_its_errors_are_djangos_and_hold_no_value() -> None:
    with pytest.raises(DataError) as caught, transaction.atomic(), prepared() as cursor:
        cursor.execute("SELECT %s::text::bigint", ["4711-secret"])
    assert "4711" not in str(caught.value)


@pytest.mark.django_db(transaction=True)
def test_requests_prepare_what_they_all_ask() -> None:
    _, client = user_with_key()

    for _ in range(3):
        assert client.get("/api/v1/balances").status_code == 200
        assert client.get("/api/v1/plans").status_code == 200

    assert kept("%WHERE api_key.prefix = $1%") == 1
    assert kept("%FROM ledger_account AS account JOIN core_asset%") == 1
