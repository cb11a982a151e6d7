from collections.abc import Iterator

import pytest

from apps.accounts import second_factor
from tests.accounts.roles.factor import Authenticators


@pytest.fixture
def authenticators() -> Iterator[Authenticators]:
    before, enrolment = second_factor.current(), second_factor.enrolment()
    found = Authenticators()
    second_factor.install(found)
    second_factor.enrolment_install(found)
    yield found
    second_factor.install(before)
    second_factor.enrolment_install(enrolment)
