"""Files of exports lie in the test's own folder."""

from pathlib import Path
from typing import Any

import pytest

from tests.deposits.conftest import bank, bank_make, shared  # noqa: F401 — fixtures
from tests.withdrawals.conftest import desk  # noqa: F401 — a fixture


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path / "media"
