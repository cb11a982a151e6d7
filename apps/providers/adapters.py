"""One small interface over every kind of venue: what to ask, how to read the answer, what to send.

Adapters are pure: they make and read bytes. `services` does the asking, so that all routes go in one batch.
How to read a fill is the same for all of them (`fills.py`): token transfers do not depend on the router.
"""

from typing import Protocol

from apps.providers import uniswap_v2, uniswap_v3
from apps.providers.domain import RouteQuote, RouteSpec, SwapCall
from apps.providers.errors import RouteInvalid


class VenueAdapter(Protocol):
    """What a venue's protocol must be able to do."""

    def route_check(self, route: RouteSpec) -> None:
        """Raises `RouteInvalid` when the route's shape does not fit the protocol."""

    def gas_estimate(self, hops: int) -> int:
        """Gas units that a swap over `hops` pools burns, about, when no quote is at hand."""

    def quote_call(self, route: RouteSpec, amount_in_units: int) -> tuple[str, str]:
        """The (contract, call data) of a read that tells what the route would give now."""

    def quote_read(self, route: RouteSpec, data: bytes) -> RouteQuote:
        """The answer to `quote_call`; raises `QuoteUnusableError`."""

    def swap_call(
        self,
        route: RouteSpec,
        *,
        amount_in_units: int,
        min_out_units: int,
        recipient: str,
        deadline: int,
        gas_units: int,
    ) -> SwapCall:
        """The transaction that sells exactly `amount_in_units`, or reverts below `min_out_units` or after
        `deadline` (seconds since the epoch, on the chain's clock)."""

    def spent_read(self, data: str) -> tuple[str, int] | None:
        """The (token, units) that a transaction made by `swap_call` spends; None for any other call data."""


_ADAPTERS: dict[str, VenueAdapter] = {
    "uniswap_v2": uniswap_v2.UniswapV2(),
    "uniswap_v3": uniswap_v3.UniswapV3(),
}


def adapter_for(kind: str) -> VenueAdapter:
    """The adapter of a venue's kind; raises `RouteInvalid` for one that this version does not know."""
    try:
        return _ADAPTERS[kind]
    except KeyError:
        raise RouteInvalid(f"unknown kind of venue: {kind}") from None
