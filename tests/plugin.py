"""Pytest plugin: real services before Django's settings load, and a real chain for the tests that ask.

PostgreSQL and Valkey start once a process unless `DATABASE_URL` and `REDIS_URL` name others: what a snapshot waits
for, who is connected and what is published are a whole server's affair, so that xdist's workers cannot share one.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from apps.sandbox.deploy import deployment_cached
from apps.sandbox.market import Market
from apps.sandbox.runtime import offset
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.sandbox import Sandbox

_services: Sandbox | None = None
_URLS = ("DATABASE_URL", "REDIS_URL")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, Any, Any]:
    """Runs around pytest-django's hook of this name, which loads the settings."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        for controllers in _URLS:
            del os.environ[controllers]
    elif early_config.known_args_namespace.numprocesses and any(url in os.environ for url in _URLS):
        raise pytest.UsageError(f"{' and '.join(_URLS)} can serve one process: run with -n 0")
    _services_start()
    return (yield)


def pytest_unconfigure() -> None:
    _services_stop()


def _services_start() -> None:
    global _services
    home = Path(tempfile.mkdtemp(prefix="tranche-test-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    # What a killed process leaves in its temporary folder goes with the run.
    (home / "tmp").mkdir()
    os.environ["TMPDIR"] = str(home / "tmp")
    _services = Sandbox(
        home,
        fsync=False,
        with_chain=False,
        database_url=os.environ.get("DATABASE_URL"),
        redis_url=os.environ.get("REDIS_URL"),
    )
    _services.start()
    atexit.register(_services_stop)
    os.environ.update(_services.environment())
    # Never the developer's own sandbox: its clock would move under the tests, and theirs under it.
    directory = home / "main"
    directory.mkdir()
    os.environ["SANDBOX_DIR"] = str(directory)


def _services_stop() -> None:
    if _services is not None:
        _services.destroy()


@pytest.fixture(scope="session")
def anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    """One node per run (per worker), contracts deployed, a block per transaction. Prefer `chain_node`."""
    directory = tmp_path_factory.mktemp("anvil")
    state = directory / "state.json"
    shutil.copyfile(deployment_cached()[0], state)
    node = Anvil(directory, state=state)
    node.start()
    yield node
    node.kill()


@pytest.fixture(scope="session")
def deployment() -> Deployment:
    """Where the contracts are on every node of the tests."""
    return deployment_cached()[1]


@pytest.fixture
def chain_node(anvil: Anvil) -> Iterator[Anvil]:
    """The node at the wall clock's time (plus the test's offset), put back afterwards with its time."""
    snapshot = anvil.snapshot()
    with suppress(SandboxError):  # a head some seconds ahead of the clock is as good
        anvil.time_set(at=offset.offset_now(Path(os.environ["SANDBOX_DIR"])))
    yield anvil
    anvil.rpc.call("anvil_dropAllTransactions")
    anvil.revert(snapshot)
    anvil.mining_automatic()


@pytest.fixture
def market(chain_node: Anvil, deployment: Deployment) -> Market:
    """The market maker on `chain_node`, with fresh price feeds."""
    maker = Market(chain_node.rpc, deployment)
    maker.refresh_feeds()
    return maker


@pytest.fixture
def time_travel(request: pytest.FixtureRequest) -> Iterator[Callable[..., int]]:
    """`time_travel(seconds=…)` or `time_travel(to=…)` moves `core.clock`, and the test's chain if any.

    The clock is back where it was after the test.
    """
    directory = Path(os.environ["SANDBOX_DIR"])
    node: Anvil | None = None
    if "chain_node" in request.fixturenames:
        node = request.getfixturevalue("chain_node")

    def travel(*, seconds: int | None = None, to: datetime | None = None) -> int:
        return offset.travel(directory, rpc=None if node is None else node.rpc, seconds=seconds, to=to)

    yield travel
    (directory / offset.CLOCK_FILE).unlink(missing_ok=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-matrix", action="store_true", help="write tests/accounts/matrix.csv anew")
