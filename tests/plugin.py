"""Pytest plugin: real services before Django's settings load, and a real chain for the tests that ask.

PostgreSQL and Valkey start once a run unless `DATABASE_URL` and `REDIS_URL` name others. Under xdist the
controller starts them and the workers inherit its environment; each worker has its own database (by
pytest-django), its own Valkey database number, its own clock file and its own chain.
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
from urllib.parse import urlsplit, urlunsplit

import pytest

from apps.sandbox.deploy import deployment_cached
from apps.sandbox.market import Market
from apps.sandbox.runtime import offset
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.sandbox import Sandbox

_services: Sandbox | None = None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests() -> Generator[None, Any, Any]:
    """Runs around pytest-django's hook of this name, which loads the settings."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        _services_start()
    else:
        _worker_separate(int(worker.removeprefix("gw")) + 1)
    return (yield)


def pytest_unconfigure() -> None:
    _services_stop()


def _services_start() -> None:
    global _services
    home = Path(tempfile.mkdtemp(prefix="tranche-test-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
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
    os.environ["SANDBOX_DIR"] = str(_directory_make(home / "main"))


def _services_stop() -> None:
    if _services is not None:
        _services.destroy()


def _worker_separate(number: int) -> None:
    url = urlsplit(os.environ["REDIS_URL"])
    os.environ["REDIS_URL"] = urlunsplit(url._replace(path=f"/{number}"))
    home = Path(os.environ["SANDBOX_DIR"]).parent
    os.environ["SANDBOX_DIR"] = str(_directory_make(home / f"worker-{number}"))


def _directory_make(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def sandbox_services() -> Sandbox:
    """The run's PostgreSQL and Valkey. Only the process that started them may ask: not an xdist worker."""
    if _services is None:
        pytest.skip("an xdist worker does not own the services")
    return _services


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
