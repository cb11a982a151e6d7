"""The second factor as the rooms above see it: who has one, and is this code theirs.

Nobody has one yet. Whoever keeps factors installs an implementation from its AppConfig; nothing else changes.
"""

from collections.abc import Collection
from typing import Protocol
from uuid import UUID


class SecondFactor(Protocol):
    """How factors are asked. A code that was right once is used up: that is the implementation's to keep."""

    def enrolled(self, *, user_ids: Collection[UUID]) -> set[UUID]:
        """Those of the people who have a factor and must use it."""

    def verify(self, *, user_id: UUID, code: str, purpose: str) -> bool:
        """Whether `code` is right now. Runs inside the caller's transaction, which commits either way."""


class NobodyHasOne:
    """The factor of a platform without factors."""

    def enrolled(self, *, user_ids: Collection[UUID]) -> set[UUID]:
        del user_ids
        return set()

    def verify(self, *, user_id: UUID, code: str, purpose: str) -> bool:
        del user_id, code, purpose
        return False


_current: SecondFactor = NobodyHasOne()


def install(factor: SecondFactor) -> None:
    """Use `factor` in this process; called once by an AppConfig."""
    global _current  # noqa: PLW0603
    _current = factor


def current() -> SecondFactor:
    return _current
