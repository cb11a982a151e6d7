"""What the rules of withdrawals refuse. Each says what would be allowed."""

from apps.core.errors import Conflict, DomainError, Retryable, Terminal


class DestinationRefused(DomainError):
    """Nobody may withdraw to this address."""

    def __init__(self, code: str, detail: str, *, pointer: str = "/destination") -> None:
        super().__init__(code, detail, pointer=pointer)


class LimitExceeded(DomainError):
    """Too much within the window. `remaining_units` is what would still fit."""

    def __init__(self, code: str, detail: str, *, remaining_units: int) -> None:
        super().__init__(code, detail, pointer="/amount", status=409)
        self.remaining_units = remaining_units


class WithdrawalsClosed(Conflict):
    """Paused, switched off, or the account is frozen: nothing is wrong with the request itself."""


class PriceMissing(Retryable):
    """Gas has no recent price in this asset, so that no fee can be quoted."""


class Unexplained(Terminal):
    """The chain did something else than was asked: an operator must look before anything is booked."""
