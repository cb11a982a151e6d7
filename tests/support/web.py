"""Real web processes on a database of their own, for tests whose point is what a caller from outside meets."""

import http.client
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from django.conf import settings
from django.db import connection

from apps.sandbox.runtime.processes import Child, child_start_on_free_port
from apps.sandbox.runtime.valkey import Valkey

HEALTH = "/api/v1/health"


def database_url() -> str:
    """Of the database that Django is connected to now."""
    found = connection.settings_dict
    login = quote(found["USER"]) + (f":{quote(found['PASSWORD'])}" if found["PASSWORD"] else "")
    return f"postgresql://{login}@{found['HOST']}:{found['PORT']}/{found['NAME']}"


@contextmanager
def database_copy() -> Iterator[str]:
    """Inside, Django works on a copy of the tests' database, and commits there; answers its URL, drops it in the end.

    To be opened by a module's fixture: a copy wants nobody connected to what is copied.
    """
    original, copy = connection.settings_dict["NAME"], f"copy_{uuid4().hex[:12]}"
    _on_server(f'CREATE DATABASE "{copy}" TEMPLATE "{original}"')
    connection.settings_dict["NAME"] = copy
    try:
        yield database_url()
    finally:
        connection.close()
        connection.settings_dict["NAME"] = original
        _on_server(f'DROP DATABASE "{copy}" WITH (FORCE)')


def committed(write: Callable[[], object]) -> None:
    """Write on a connection of its own: nobody sees into the transaction around a test."""

    def work() -> None:
        try:
            write()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(work).result()


@contextmanager
def web_open(directory: Path, *, name: str = "web", **environment: str) -> Iterator[int]:
    """The web role, one process of four threads; answers its port. `environment` comes on top of this process's."""
    child, port = web_start(directory, name=name, environment=environment)
    try:
        yield port
    finally:
        child.stop()


@dataclass(frozen=True)
class Webs:
    """Two web processes, their Redis, and the `environment` that whoever else belongs to them is started with."""

    ports: tuple[int, int]
    valkey: Valkey
    environment: Mapping[str, str]


@contextmanager
def webs_open(directory: Path, **environment: str) -> Iterator[Webs]:
    """Two web roles on a copy of the tests' database, with a Redis of their own."""
    valkey = Valkey(directory / "valkey")
    valkey.start()
    try:
        with database_copy() as url:
            shared = {"DATABASE_URL": url, "REDIS_URL": valkey.url, **environment}
            with (
                web_open(directory, name="one", **shared) as one,
                web_open(directory, name="other", **shared) as other,
            ):
                yield Webs((one, other), valkey, shared)
    finally:
        valkey.stop()


def web_start(
    directory: Path, *, name: str, environment: Mapping[str, str], alone: bool = False
) -> tuple[Child, int]:
    """As `web_open`; the caller stops it. Its output is in `<name>.log`. `alone`: nothing of our own environment."""
    inherited = {} if alone else os.environ

    def make(port: int) -> Child:
        return Child(
            name=name,
            argv=[sys.executable, "-m", "config.roles", "web"],
            log=directory / f"{name}.log",
            environment={
                **inherited, "WEB_WORKERS": "1", "LOG_FORMAT": "json", **environment, "PORT": str(port),
            },
            directory=settings.BASE_DIR,
        )  # fmt: skip

    return child_start_on_free_port(make, ready=lambda port, _: _answers(port), seconds=60)


def _answers(port: int) -> bool:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        link.request("GET", HEALTH, headers={"X-Forwarded-Proto": "https"})
        return link.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def _on_server(statement: str) -> None:
    """Outside of every database that may be copied or dropped."""
    connection.close()
    with connection._nodb_cursor() as cursor:
        cursor.execute(statement)
