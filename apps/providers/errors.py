"""What can go wrong between a market and its venues, told apart by whether trying again can help."""

from apps.core.errors import Retryable, Terminal


class ReferenceUnavailable(Retryable):
    """No independent price that may be trusted now: a feed is stale, absent, or answers nonsense.

    Without a reference there is no guard, and without a guard nothing is swapped.
    """


class NoRoute(Retryable):
    """No enabled route of a healthy venue can fill this amount now."""


class QuoteUnusableError(Exception):
    """One route's answer cannot be used; the other routes may still serve. Never leaves this app.

    `faulty` says whether the venue itself misbehaved, or merely has too little for this amount.
    """

    def __init__(self, message: str, *, faulty: bool = False) -> None:
        super().__init__(message)
        self.faulty = faulty


class RouteInvalid(Terminal):
    """A route's configuration contradicts its market or its venue."""


class FillMissing(Terminal):
    """A receipt does not show both sides of the swap: nothing may be settled from it."""
