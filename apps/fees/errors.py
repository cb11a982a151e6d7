"""What can go wrong with a fee."""

from apps.core.errors import Retryable


class FeeScheduleMissing(Retryable):
    """No schedule is in force for a tier and an asset: an operator must add one; nothing is guessed."""
