"""The town of the tests that walk all operations: built once a module, each test's changes rolled back."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from django.db import transaction
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from apps.accounts import second_factor
from apps.accounts.signin import client
from apps.sandbox.runtime import offset
from tests.accounts.signin.provider import provider_running
from tests.core.api.town import Town, town_make


@pytest.fixture(scope="module")
def town(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Town]:
    """In a transaction that encloses the module's; its tests want the mark `django_db` for theirs inside."""
    directory, factor = Path(os.environ["SANDBOX_DIR"]), second_factor.current()
    with provider_running() as google:
        settings = override_settings(SOCIALACCOUNT_PROVIDERS=google.settings)
        with settings, django_db_blocker.unblock(), transaction.atomic():
            yield replace(town_make(partial(offset.travel, directory, rpc=None)), google=google)
            transaction.set_rollback(True)
    client.forget()
    second_factor.install(factor)
    (directory / offset.CLOCK_FILE).unlink(missing_ok=True)
