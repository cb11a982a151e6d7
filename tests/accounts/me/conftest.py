"""Money and people for what is asked of, and done to, an account."""

from tests.deposits.conftest import bank, bank_make, shared  # noqa: F401 — fixtures
from tests.withdrawals.conftest import desk  # noqa: F401 — a fixture
