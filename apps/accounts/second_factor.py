"""The second factor as the rooms above see it: who has one, is this code theirs, and how one is set up.

Whoever keeps factors (`accounts.signin.factor`) installs the implementation from its AppConfig.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


class SecondFactor(Protocol):
    """How factors are asked. A code that was right once is used up: that is the implementation's to keep."""

    def enrolled(self, *, user_ids: Collection[UUID]) -> set[UUID]:
        """Those of the people who have a factor and must use it."""

    def verify(self, *, user_id: UUID, code: str, purpose: str) -> bool:
        """Whether `code` is right now. Runs inside the caller's transaction, which commits either way."""


@dataclass(frozen=True)
class Offer:
    """A factor to be: the secret, its `otpauth://` address, and that as a QR code (SVG, empty when none is drawn)."""

    secret: str
    url: str
    qr_svg: str

    def __repr__(self) -> str:
        return "Offer(…)"


class Enrolment(Protocol):
    """How somebody who has no factor gets one."""

    def offer(self, *, user_id: UUID, secret: str = "") -> Offer:
        """A new secret, or the one that was offered before; nothing is stored."""

    def confirm(self, *, user_id: UUID, secret: str, code: str) -> list[str] | None:
        """Store the factor when `code` is right for `secret`; the recovery codes, None for a wrong code.

        Runs inside the caller's transaction. A person who has a factor gets no other one here: None.
        """


class NobodyHasOne:
    """The factor of a platform without factors."""

    def enrolled(self, *, user_ids: Collection[UUID]) -> set[UUID]:
        del user_ids
        return set()

    def verify(self, *, user_id: UUID, code: str, purpose: str) -> bool:
        del user_id, code, purpose
        return False


_current: SecondFactor = NobodyHasOne()
_enrolment: Enrolment | None = None


def install(factor: SecondFactor) -> None:
    """Use `factor` in this process; called once by an AppConfig."""
    global _current  # noqa: PLW0603
    _current = factor


def current() -> SecondFactor:
    return _current


def enrolment_install(enrolment: Enrolment | None) -> None:
    """How factors are set up in this process; called once by an AppConfig."""
    global _enrolment  # noqa: PLW0603
    _enrolment = enrolment


def enrolment() -> Enrolment | None:
    """None where no factor can be set up: then nobody without one gets into the admin."""
    return _enrolment
