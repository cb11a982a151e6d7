"""A canary in every credential, real processes that work and break, and no canary outside its cage.

Production's settings; web, worker, signer, beat and Flower, and a web process whose services are away; a stand-in for
Sentry that takes what `sentry-sdk` really sends. What is looked through: every log, every error report, everything that
Redis was ever sent, every page of Flower, and every row of the database.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from pytest_django import DjangoDbBlocker

from tests.core.api.town import everything
from tests.core.canaries.cage import requests_made
from tests.core.canaries.platform import ROLES, Platform, ask, flower_ask, platform_running
from tests.core.canaries.walker import Walker
from tests.support.stack import wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def platform(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    with django_db_blocker.unblock(), platform_running(tmp_path_factory.mktemp("canaries")) as found:
        yield found


def _tables(url: str) -> dict[str, str]:
    """Every table of the database as text, those of packages too."""
    with psycopg.connect(url) as link:
        names = link.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
        ).fetchall()
        return {
            f"table {name}": "\n".join(
                row[0] for row in link.execute(f'SELECT t::text FROM "{name}" AS t').fetchall()
            )
            for (name,) in names
        }


def _broken_for_a_moment(platform: Platform, said: Callable[[str], str]) -> None:
    """A table is missing, and the tick that asks it crashes. Outside of the test's own transaction."""
    with psycopg.connect(platform.database, autocommit=True) as link:
        link.execute("ALTER TABLE core_workprobe RENAME TO core_workprobe_gone")
        wait_until(
            lambda: 'relation \\"core_workprobe\\" does not exist' in said("worker"),
            seconds=60,
            what=lambda: said("worker")[-3_000:],
        )
        link.execute("ALTER TABLE core_workprobe_gone RENAME TO core_workprobe")
    reported = lambda: any("core_workprobe" in report for report in platform.sentry.reports)  # noqa: E731
    wait_until(reported, seconds=60, what="the crash is reported")


def test_no_canary_is_anywhere_outside_its_cage(platform: Platform) -> None:
    cage = platform.cage
    # given everything that works and breaks: requests, with services there and away, ...
    statuses: dict[int, set[int]] = {}
    for port in (platform.web, platform.broken):
        for method, path, headers, body in requests_made(cage):
            statuses.setdefault(port, set()).add(ask(port, method, path, headers, body)[0])
    assert {200, 401, 403, 405, 500, 503} <= statuses[platform.web]
    assert {500, 503} <= statuses[platform.broken]

    # ... somebody who signs up, in, and back in, ...
    walker = Walker(platform)
    walker.walk()
    assert len([name for name in walker.held if name.startswith(("access", "refresh", "recovery"))]) >= 14

    # ... a signer that cannot sign, a worker whose chain is away, ...
    def said(role: str) -> str:
        return (platform.directory / f"{role}.log").read_text()

    wait_until(
        lambda: "rpc endpoint failed" in said("worker"), seconds=60, what=lambda: said("worker")[-3_000:]
    )
    # ... tasks that crash, ...
    _broken_for_a_moment(platform, said)
    # ... pages that people look at, ...
    pages = [
        flower_ask(platform.flower, path, cage)
        for path in ("/", "/workers", "/tasks", "/broker", "/api/tasks", "/api/workers?refresh=1")
    ]

    # It waits a second for who answers, and keeps who ever did.
    def workers() -> dict[str, Any]:
        pages[-1] = flower_ask(platform.flower, "/api/workers?refresh=1", cage)
        found: dict[str, Any] = json.loads(pages[-1][1])
        return found

    wait_until(lambda: len(workers()) == 2, seconds=60, what="Flower knows both workers")
    pages += [flower_ask(platform.flower, f"/worker/{quote(name)}", cage) for name in workers()]
    tasks = json.loads(pages[4][1])
    assert tasks
    pages += [flower_ask(platform.flower, f"/task/{one}", cage) for one in list(tasks)[:5]]
    assert {status for status, _ in pages} == {200}
    rows, tables = repr(everything()), _tables(platform.database)
    # ... and Redis going away under everybody.
    heard = len(platform.listener.heard)
    assert heard > 50
    mark = len(said("worker"))
    platform.redis.config_set("requirepass", "another")
    platform.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
    for method, path, headers, body in requests_made(cage):
        ask(platform.web, method, path, headers, body)
    lost = lambda: "Connection" in said("worker")[mark:]  # noqa: E731
    wait_until(lost, seconds=30, what=lambda: said("worker")[-3_000:])

    # then
    logs = {log.stem: log.read_text() for log in platform.directory.glob("*.log")}
    assert set(logs) == {"web", "broken", *ROLES}
    assert len(platform.sentry.reports) >= 3
    assert platform.sentry.calls
    searched = {
        **{f"{name}.log": text for name, text in logs.items()},
        **{f"report {number}": text for number, text in enumerate(platform.sentry.reports)},
        **{f"call {number}": text for number, text in enumerate(platform.sentry.calls)},
        "redis": "\n".join(platform.listener.heard),
        **{f"flower page {number}": text for number, (_, text) in enumerate(pages)},
        "database": rows,
    }
    leaks = walker.leaks({**{name: text for name, text in searched.items() if name != "database"}, **tables})
    for place, text in searched.items():
        for name, forms in cage.forms().items():
            for form in forms:
                if form in text:
                    at = text.index(form)
                    leaks[f"{name} in {place}"] = text[max(0, at - 200) : at + 60]
    assert leaks == {}, "\n".join(f"{what}: {context}" for what, context in leaks.items())
