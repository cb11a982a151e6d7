"""The market maker of the demo and of the chaos runs: real pushes, real mints and real swaps."""

from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from math import isqrt
from typing import Any

from apps.core.failpoints import reach
from apps.sandbox.deploy import FEED_DECIMALS, FOREVER, price_ratio, sqrt_price_x96
from apps.sandbox.runtime.contracts import Contracts, Write, call_data
from apps.sandbox.runtime.deployment import Deployment, PoolInfo
from apps.sandbox.runtime.rpc import Rpc

# Uniswap V2 takes 3 of 1000 from what comes in.
_V2_KEPT, _V2_WHOLE = 997, 1000
# Ether for a till's one transaction, in wei: more than it can cost.
_TILL_GAS = 10**18


class Market:
    """Acts as the deployer, who owns the tokens and feeds and has deep pockets."""

    def __init__(self, rpc: Rpc, deployment: Deployment) -> None:
        self.deployment = deployment
        self.chain = Contracts(rpc, sender=deployment.deployer)

    def push_price(self, *, symbol: str, price: Decimal) -> None:
        """Push a dollar price to the symbol's feed."""
        self.chain.write_all([self._push(symbol, price)])

    def feed_price(self, *, symbol: str) -> Decimal:
        """The feed's latest answer in dollars."""
        answer = self.chain.read(
            self.deployment.feeds[symbol],
            "latestRoundData()",
            returns=["uint80", "int256", "uint256", "uint256", "uint80"],
        )
        return Decimal(answer[1]).scaleb(-FEED_DECIMALS)

    def refresh_feeds(self) -> None:
        """Push every feed's price again: after a jump in time their answers are stale."""
        self.chain.write_all(
            [self._push(symbol, self.feed_price(symbol=symbol)) for symbol in self.deployment.feeds]
        )

    def move_asset(self, *, symbol: str, price: Decimal) -> None:
        """Take a token's feed and pools to a dollar price; its counterparts stay at their feeds' prices.

        In one block, where the node allows: each block costs the platform that watches the chain.
        """
        writes = [self._push(symbol, price)]
        for pool in self.deployment.pools:
            if symbol in (pool.token0, pool.token1):
                other = pool.token1 if pool.token0 == symbol else pool.token0
                writes += self._moves(pool, base=symbol, price=price / self.feed_price(symbol=other))
        self.chain.write_all(writes)

    def move_pool(self, pool: PoolInfo, *, base: str, price: Decimal) -> None:
        """Swap until one `base` token costs `price` of the pool's other token."""
        self.chain.write_all(self._moves(pool, base=base, price=price))

    def _push(self, symbol: str, price: Decimal) -> Write:
        return Write(self.deployment.feeds[symbol], "push(int256)", (int(price * 10**FEED_DECIMALS),))

    def _moves(self, pool: PoolInfo, *, base: str, price: Decimal) -> list[Write]:
        """The swap that takes a pool from where it is to a price; none when it is there."""
        quote = pool.token1 if pool.token0 == base else pool.token0
        ratio = price_ratio(base=self.deployment.token(base), quote=self.deployment.token(quote), price=price)
        token1_per_token0 = ratio if base == pool.token0 else 1 / ratio
        if pool.venue == "uniswap_v2":
            return self._moves_v2(pool, token1_per_token0)
        return self._moves_v3(pool, token1_per_token0)

    def pool_price(self, pool: PoolInfo, *, base: str) -> Decimal:
        """What one `base` token costs in the pool's other token, before fees, to 28 digits."""
        if pool.venue == "uniswap_v2":
            reserve0, reserve1 = self._reserves(pool)
            ratio = Fraction(reserve1, reserve0)
        else:
            ratio = Fraction(self._sqrt_price(pool) ** 2, 2**192)
        token0, token1 = self.deployment.token(pool.token0), self.deployment.token(pool.token1)
        ratio = ratio * Fraction(10**token0.decimals, 10**token1.decimals)
        if base == pool.token1:
            ratio = 1 / ratio
        return Decimal(ratio.numerator) / Decimal(ratio.denominator)

    def mint(self, *, symbol: str, to: str, units: int) -> None:
        """Give `units` base units of a token; WETH is wrapped and sent, since nobody can mint it."""
        address = self.deployment.token(symbol).address
        if symbol == "WETH":
            self.chain.write(address, "deposit()", value=units)
            self.chain.write(address, "transfer(address,uint256)", to, units)
        else:
            self.chain.write(address, "mint(address,uint256)", to, units)

    def send_ether(self, *, to: str, wei: int) -> None:
        """Send native coin, for gas."""
        self.chain.send_value(to, wei=wei)

    def give_once(self, *, symbol: str, to: str, units: int, reference: str) -> None:
        """Give `units` of a token, or of `ETH`, once per `reference`, whatever is killed and repeated.

        They go through an account of the reference's own, the till: filled until it holds enough, emptied by its
        first transaction (which cannot revert), of which the chain takes one. What is left in a till is nobody's.
        """
        till = Contracts(self.chain.rpc, sender="0x" + sha256(reference.encode()).hexdigest()[-40:])
        if not till.sent(mined=False):
            reach("sandbox.faucet.before_till")
            give = self._till_fill(till, symbol=symbol, to=to, units=units)
            reach("sandbox.faucet.after_till")
            till.send_first(give)
            reach("sandbox.faucet.sent")
        till.first_wait()

    def _till_fill(self, till: Contracts, *, symbol: str, to: str, units: int) -> dict[str, Any]:
        """Put at least `units` there; answers the transaction that empties it."""
        till.rpc.call("anvil_impersonateAccount", till.sender)
        coin = units if symbol == "ETH" else 0
        till.rpc.call("anvil_setBalance", till.sender, hex(_TILL_GAS + coin))
        if symbol == "ETH":
            return {"to": to, "value": hex(units)}
        missing = units - self.balance(symbol=symbol, of=till.sender)
        if missing > 0:
            self.mint(symbol=symbol, to=till.sender, units=missing)
        data = call_data("transfer(address,uint256)", to, units)
        return {"to": self.deployment.token(symbol).address, "data": data}

    def balance(self, *, symbol: str, of: str) -> int:
        """A token balance in base units."""
        (balance,) = self.chain.read(
            self.deployment.token(symbol).address, "balanceOf(address)", of, returns=["uint256"]
        )
        return int(balance)

    def _moves_v2(self, pool: PoolInfo, ratio: Fraction) -> list[Write]:
        reserve0, reserve1 = self._reserves(pool)
        if Fraction(reserve1, reserve0) > ratio:
            amount = _v2_amount_in(reserve_in=reserve0, reserve_out=reserve1, out_per_in=ratio)
            path = (pool.token0, pool.token1)
        else:
            amount = _v2_amount_in(reserve_in=reserve1, reserve_out=reserve0, out_per_in=1 / ratio)
            path = (pool.token1, pool.token0)
        if amount <= 0:
            return []
        tokens = [self.deployment.token(symbol).address for symbol in path]
        return [
            Write(
                self.deployment.contracts["v2_router"],
                "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)",
                (amount, 0, tokens, self.chain.sender, FOREVER),
            )
        ]

    def _moves_v3(self, pool: PoolInfo, ratio: Fraction) -> list[Write]:
        target, now = sqrt_price_x96(ratio), self._sqrt_price(pool)
        if target == now:
            return []
        # The pool stops at the limit and takes only what it needed to get there.
        sold, bought = (pool.token0, pool.token1) if target < now else (pool.token1, pool.token0)
        order = (
            *(self.deployment.token(sold).address, self.deployment.token(bought).address, pool.fee_pips),
            *(self.chain.sender, FOREVER, self.balance(symbol=sold, of=self.chain.sender), 0, target),
        )
        return [
            Write(
                self.deployment.contracts["v3_router"],
                "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
                (order,),
            )
        ]

    def _reserves(self, pool: PoolInfo) -> tuple[int, int]:
        reserve0, reserve1, _ = self.chain.read(
            pool.address, "getReserves()", returns=["uint112", "uint112", "uint32"]
        )
        return int(reserve0), int(reserve1)

    def _sqrt_price(self, pool: PoolInfo) -> int:
        slot = self.chain.read(pool.address, "slot0()", returns=["uint160", "int24"])
        return int(slot[0])


def _v2_amount_in(*, reserve_in: int, reserve_out: int, out_per_in: Fraction) -> int:
    """The input after which reserves stand at `out_per_in`.

    With y = k·x·R/(w·r + k·x) given out for x taken in, (R - y)/(r + x) = p is the quadratic
    k·x² + (w + k)·r·x + w·(r² - r·R/p) = 0; its positive root is the answer.
    """
    r, k, w = reserve_in, _V2_KEPT, _V2_WHOLE
    missing = Fraction(r * reserve_out) / out_per_in - r * r
    if missing <= 0:
        return 0
    linear = (w + k) * r
    return (isqrt(linear * linear + int(4 * k * w * missing)) - linear) // (2 * k)
