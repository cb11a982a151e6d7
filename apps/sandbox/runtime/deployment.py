"""Where the sandbox's contracts are: plain values that go through JSON."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TokenInfo:
    """A token of the sandbox."""

    symbol: str
    name: str
    decimals: int
    address: str


@dataclass(frozen=True, kw_only=True)
class PoolInfo:
    """A pool; `fee_pips` is in hundredths of a basis point, as Uniswap counts (3000 is 0.3 %)."""

    venue: str
    address: str
    token0: str
    token1: str
    fee_pips: int


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Where everything is. Addresses are in lower case; pools name their tokens by symbol."""

    chain_id: int
    start_block: int
    deployer: str
    accounts: tuple[str, ...]
    contracts: dict[str, str]
    tokens: dict[str, TokenInfo]
    pools: tuple[PoolInfo, ...]
    feeds: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Deployment":
        return cls(
            chain_id=value["chain_id"],
            start_block=value["start_block"],
            deployer=value["deployer"],
            accounts=tuple(value["accounts"]),
            contracts=dict(value["contracts"]),
            tokens={symbol: TokenInfo(**token) for symbol, token in value["tokens"].items()},
            pools=tuple(PoolInfo(**pool) for pool in value["pools"]),
            feeds=dict(value["feeds"]),
        )

    def token(self, symbol: str) -> TokenInfo:
        return self.tokens[symbol]

    def pool(self, *, venue: str, tokens: tuple[str, str], fee_pips: int = 3000) -> PoolInfo:
        """The pool of two symbols in either order. Raises `LookupError` when there is none."""
        for pool in self.pools:
            if (
                pool.venue == venue
                and {pool.token0, pool.token1} == set(tokens)
                and pool.fee_pips == fee_pips
            ):
                return pool
        raise LookupError(f"no {venue} pool of {tokens} with fee {fee_pips}")
