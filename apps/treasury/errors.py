"""What can go wrong between the wallets and the books."""

from apps.core.errors import Terminal


class NoWallet(Terminal):
    """The asset's network has no wallet that could hold it, or the asset lives on no network."""
