from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import time_machine

from apps.accounts.signin import client


@pytest.fixture
def later() -> Iterator[Callable[[float], None]]:
    """Move this process's clock ahead by so many seconds, again and again."""
    with time_machine.travel(datetime.now(UTC), tick=True) as traveller:
        yield traveller.shift


@pytest.fixture(autouse=True)
def nothing_kept_of_the_provider() -> Iterator[None]:
    client.forget()
    yield
    client.forget()
