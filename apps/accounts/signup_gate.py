"""May this person sign up now? Asked by whatever makes accounts; answered by whoever runs the launch.

Without a gate everybody may. `check` comes before the account is made (say, in allauth's `is_open_for_signup`), `used`
in the transaction that makes it: an invitation is used up together with the account or not at all.
"""

from collections.abc import Collection
from typing import Protocol
from uuid import UUID

from apps.core.errors import DomainError


class SignUpRefused(DomainError):
    """`code` is `sign_up_closed` (nobody may now), `invitation_required` or `invitation_invalid` (this one may not)."""

    def __init__(self, code: str, detail: str, *, pointer: str = "") -> None:
        super().__init__(code, detail, pointer=pointer, status=403)


class SignUpGate(Protocol):
    """`invitation` is the token of an invitation, or empty."""

    def open_for(self, *, invitation: str) -> bool:
        """Whether a form is worth showing: no e-mail is known yet. `check` has the last word."""

    def check(self, *, email: str, invitation: str) -> None:
        """Raises `SignUpRefused`."""

    def used(self, *, user_id: UUID, email: str, invitation: str) -> None:
        """The account is made, in this transaction. Raises `SignUpRefused` when its invitation is gone by now."""

    def given_back(self, *, user_ids: Collection[UUID]) -> None:
        """Whoever made these accounts never proved the email; they go, in this transaction."""


class Open:
    """The gate of a platform without one."""

    def open_for(self, *, invitation: str) -> bool:
        del invitation
        return True

    def check(self, *, email: str, invitation: str) -> None:
        del email, invitation

    def used(self, *, user_id: UUID, email: str, invitation: str) -> None:
        del user_id, email, invitation

    def given_back(self, *, user_ids: Collection[UUID]) -> None:
        del user_ids


_current: SignUpGate = Open()


def install(gate: SignUpGate) -> None:
    """Use `gate` in this process; called once by an AppConfig."""
    global _current  # noqa: PLW0603
    _current = gate


def current() -> SignUpGate:
    return _current
