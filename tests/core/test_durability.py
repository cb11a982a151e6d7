"""What was committed stays committed when PostgreSQL dies, whatever its own configuration says."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from apps.sandbox.runtime.postgres import Postgres
from config.settings import common


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Postgres]:
    """A server that acknowledges commits before it has written them, as operators set up for speed."""
    server = Postgres(tmp_path / "postgres", fsync=False)
    server.start()
    with psycopg.connect(server.url, autocommit=True) as session:
        assert session.execute("SHOW synchronous_commit").fetchone() == ("off",)
        session.execute("SET synchronous_commit = on")
        session.execute("CREATE TABLE promised (n int)")
    yield server
    server.stop()


def _killed_while_it_commits(server: Postgres, *, options: str) -> tuple[int, int]:
    """The last number that was acknowledged before the server was stopped, and the last that is there after."""
    acknowledged = 0
    going = threading.Event()

    def commit() -> None:
        nonlocal acknowledged
        with psycopg.connect(server.url, autocommit=True, options=options) as session:
            while True:
                try:
                    session.execute("INSERT INTO promised VALUES (%s)", (acknowledged + 1,))
                except psycopg.OperationalError:
                    return
                acknowledged += 1
                if acknowledged == 300:
                    going.set()

    writer = threading.Thread(target=commit)
    writer.start()
    assert going.wait(30)
    server.stop_immediate()
    writer.join()
    server.start()
    with psycopg.connect(server.url) as session:
        row = session.execute("SELECT coalesce(max(n), 0) FROM promised").fetchone()
    assert row is not None
    return acknowledged, row[0]


def test_without_our_options_acknowledged_commits_are_lost(hasty: Postgres) -> None:
    """What that costs: a signature that was committed, then broadcast, then forgotten. It would be signed anew."""
    acknowledged, kept = _killed_while_it_commits(hasty, options="")

    assert kept < acknowledged


def test_with_our_options_every_acknowledged_commit_is_there(
    hasty: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", hasty.url)
    options = common.databases()["default"]["OPTIONS"]["options"]

    acknowledged, kept = _killed_while_it_commits(hasty, options=options)

    assert kept >= acknowledged


@pytest.mark.django_db
def test_our_sessions_commit_synchronously() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
