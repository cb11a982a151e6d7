"""Here the state is asked of the database, and nothing is kept from one test to the next."""

from collections.abc import Iterator

import pytest

from apps.launch.states import PLATFORM_NOW


@pytest.fixture(autouse=True)
def state_is_asked(platform_is_live: None) -> Iterator[None]:
    PLATFORM_NOW.forget()
    yield
    PLATFORM_NOW.forget()
