"""Uniswap V2 and its many copies: constant-product pairs behind one router.

Source: UniswapV2Router02 (`getAmountsOut`, `swapExactTokensForTokens`), v2-periphery.
"""

from apps.chain import abi
from apps.providers.domain import RouteQuote, RouteSpec, SwapCall
from apps.providers.errors import QuoteUnusableError, RouteInvalid

# The router cannot estimate gas. Measured: 135,000 for one hop, 241,000 for two (tests/providers/test_swaps.py).
_GAS_BASE = 30_000
_GAS_PER_HOP = 105_000
# A path never used before writes fresh storage; unused gas costs nothing.
_GAS_LIMIT_FACTOR = 2
_SWAP = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"


class UniswapV2:
    """Makes and reads the bytes; see `adapters.VenueAdapter`."""

    def route_check(self, route: RouteSpec) -> None:
        if len(route.path) < 2 or route.pool_fees:
            raise RouteInvalid("a V2 route has a path of tokens and no pool fees")

    def gas_estimate(self, hops: int) -> int:
        return _GAS_BASE + _GAS_PER_HOP * hops

    def quote_call(self, route: RouteSpec, amount_in_units: int) -> tuple[str, str]:
        data = abi.call_data("getAmountsOut(uint256,address[])", [amount_in_units, list(route.path)])
        return route.router, data

    def quote_read(self, route: RouteSpec, data: bytes) -> RouteQuote:
        (amounts,) = abi.decode(["uint256[]"], data)
        if len(amounts) != len(route.path) or amounts[-1] <= 0:
            raise QuoteUnusableError("the pair gives nothing for this amount")
        return RouteQuote(amount_out_units=int(amounts[-1]), gas_units=self.gas_estimate(route.hops))

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
        data = abi.call_data(
            _SWAP,
            [amount_in_units, min_out_units, list(route.path), recipient, deadline],
        )
        return SwapCall(to=route.router, data=data, gas_limit=gas_units * _GAS_LIMIT_FACTOR)

    def spent_read(self, data: str) -> tuple[str, int] | None:
        try:
            amount, _, path, _, _ = abi.arguments(_SWAP, data)
        except ValueError:
            return None
        return str(path[0]).lower(), int(amount)
