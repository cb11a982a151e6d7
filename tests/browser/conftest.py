from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests.browser.stage import Stage, stage_open


@pytest.fixture(scope="module")
def stage(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    with django_db_blocker.unblock(), stage_open(tmp_path_factory.mktemp("stage")) as opened:
        yield opened
