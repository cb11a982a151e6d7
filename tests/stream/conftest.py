from collections.abc import Iterator

import pytest

from tests.stream.support import Process, process_open


@pytest.fixture(scope="module")
def stream(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for the tests of a module that leave it running."""
    with process_open(tmp_path_factory.mktemp("stream")) as process:
        yield process
