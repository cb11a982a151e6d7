from collections.abc import Iterator

import pytest

from tests.stream.support import Process, process_open


# Not for the whole session: a database that somebody is connected to cannot be copied (`tests.support.web`).
@pytest.fixture(scope="package")
def stream(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for the tests that leave it running: starting one takes seconds."""
    with process_open(tmp_path_factory.mktemp("stream")) as process:
        yield process


@pytest.fixture(scope="package")
def deaf(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A second process, without Redis."""
    with process_open(
        tmp_path_factory.mktemp("deaf"), REDIS_URL="redis://127.0.0.1:1/0", SERVICE_NAME="deaf"
    ) as process:
        yield process


@pytest.fixture
def doomed(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process to be ended."""
    with process_open(
        tmp_path_factory.mktemp("doomed"), SERVICE_NAME="doomed", STREAM_CONNECTIONS="8"
    ) as process:
        yield process
