"""Uniswap V3: concentrated liquidity, one pool per fee. Quotes by QuoterV2, swaps by SwapRouter (version 1).

Version 1 of the router is used on purpose: its calls carry the deadline, which `SwapRouter02` moved into a
multicall. Source: v3-periphery, `lens/QuoterV2.sol` and `SwapRouter.sol`; Uniswap V3 core, `TickMath.sol`.
"""

from apps.chain import abi
from apps.providers.domain import RouteQuote, RouteSpec, SwapCall
from apps.providers.errors import QuoteUnusableError, RouteInvalid

# A pool that runs dry does not revert: the swap stops at the end of the price range and takes only a part of
# what was offered. The quoter then ends on one of these two prices (TickMath's bounds, one unit inside).
_LOWEST_SQRT_PRICE = 4_295_128_739 + 1
_HIGHEST_SQRT_PRICE = 1_461_446_703_485_210_103_287_273_052_203_988_822_378_723_970_342 - 1

# The quoter measures the pool's part only: the transaction itself, the router and the payment come on top.
# Measured: 121,000 to 144,000 for one hop, 220,000 to 234,000 for two (tests/providers/test_swaps.py).
_GAS_AROUND_POOLS = 35_000
_GAS_PER_POOL = 92_000
# Crossing more ticks than at the time of the quote costs more; unused gas costs nothing.
_GAS_LIMIT_FACTOR = 2
_SWAP_SINGLE = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
_SWAP_PATH = "exactInput((bytes,address,uint256,uint256,uint256))"


class UniswapV3:
    """Makes and reads the bytes; see `adapters.VenueAdapter`."""

    def route_check(self, route: RouteSpec) -> None:
        if len(route.path) < 2 or len(route.pool_fees) != route.hops:
            raise RouteInvalid("a V3 route has one pool fee per hop")
        if any(not 0 < fee < 1_000_000 for fee in route.pool_fees):
            raise RouteInvalid("a V3 pool fee is in millionths, between 0 and 1")
        if not route.quoter:
            raise RouteInvalid("a V3 venue has a quoter")

    def gas_estimate(self, hops: int) -> int:
        return _GAS_AROUND_POOLS + _GAS_PER_POOL * hops

    def quote_call(self, route: RouteSpec, amount_in_units: int) -> tuple[str, str]:
        if route.hops == 1:
            data = abi.call_data(
                "quoteExactInputSingle((address,address,uint256,uint24,uint160))",
                [(route.path[0], route.path[1], amount_in_units, route.pool_fees[0], 0)],
            )
        else:
            data = abi.call_data("quoteExactInput(bytes,uint256)", [packed_path(route), amount_in_units])
        return route.quoter, data

    def quote_read(self, route: RouteSpec, data: bytes) -> RouteQuote:
        if route.hops == 1:
            out, price_after, _, gas = abi.decode(["uint256", "uint160", "uint32", "uint256"], data)
            prices_after = [price_after]
        else:
            out, prices_after, _, gas = abi.decode(["uint256", "uint160[]", "uint32[]", "uint256"], data)
        if any(price in (_LOWEST_SQRT_PRICE, _HIGHEST_SQRT_PRICE) for price in prices_after):
            raise QuoteUnusableError("the pool cannot take the whole amount")
        if out <= 0:
            raise QuoteUnusableError("the pool gives nothing for this amount")
        return RouteQuote(amount_out_units=int(out), gas_units=int(gas) + _GAS_AROUND_POOLS)

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
        if route.hops == 1:
            data = abi.call_data(
                _SWAP_SINGLE,
                [
                    (
                        route.path[0],
                        route.path[1],
                        route.pool_fees[0],
                        recipient,
                        deadline,
                        amount_in_units,
                        min_out_units,
                        0,
                    )
                ],
            )
        else:
            data = abi.call_data(
                _SWAP_PATH,
                [(packed_path(route), recipient, deadline, amount_in_units, min_out_units)],
            )
        return SwapCall(to=route.router, data=data, gas_limit=gas_units * _GAS_LIMIT_FACTOR)

    def spent_read(self, data: str) -> tuple[str, int] | None:
        try:
            if data.startswith("0x" + abi.selector(_SWAP_SINGLE).hex()):
                (single,) = abi.arguments(_SWAP_SINGLE, data)
                return str(single[0]).lower(), int(single[5])
            (through,) = abi.arguments(_SWAP_PATH, data)
            return "0x" + bytes(through[0])[:20].hex(), int(through[3])
        except ValueError:
            return None


def packed_path(route: RouteSpec) -> bytes:
    """Token (20 bytes), fee (3 bytes), token, … as the quoter and the router read it."""
    packed = bytes.fromhex(route.path[0][2:])
    for fee, token in zip(route.pool_fees, route.path[1:], strict=True):
        packed += fee.to_bytes(3, "big") + bytes.fromhex(token[2:])
    return packed
