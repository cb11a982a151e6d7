"""Uniswap V2 and V3 from their published artifacts, three tokens, deep pools and price feeds."""

from decimal import Decimal
from fractions import Fraction
from math import isqrt
from pathlib import Path

from apps.sandbox.runtime import deployment
from apps.sandbox.runtime.anvil import CHAIN_ID, Anvil
from apps.sandbox.runtime.compiler import artifact_published, contract_sources, contracts_compile
from apps.sandbox.runtime.contracts import Contracts
from apps.sandbox.runtime.deployment import Deployment, PoolInfo, TokenInfo
from apps.sandbox.runtime.files import content_hash, file_lock, json_read, json_write
from apps.sandbox.runtime.paths import CACHE_DIR, CONTRACTS_DIR
from apps.sandbox.runtime.rpc import Rpc

FOREVER = 2**63
FEED_DECIMALS = 8
# 2026-01-01T00:00:00Z: a fixed start before any run, since a chain's time never goes back.
GENESIS_AT = 1_767_225_600
PRICES = {"USDC": Decimal(1), "WBTC": Decimal(60_000), "LINK": Decimal(15), "WETH": Decimal(2_500)}
_DECIMALS = {"USDC": 6, "WBTC": 8, "LINK": 18, "WETH": 18}
_NAMES = {"USDC": "USD Coin", "WBTC": "Wrapped Bitcoin", "LINK": "Chainlink Token"}
# Each side of each pool is worth this many dollars: a thousand-dollar swap moves a price by less than a bip.
_DEPTH = {("USDC", "WETH"): 50_000_000, ("USDC", "WBTC"): 50_000_000, ("USDC", "LINK"): 15_000_000,
          ("WETH", "WBTC"): 50_000_000}  # fmt: skip
_V3_FEES = {("USDC", "WETH"): (3000, 500), ("USDC", "WBTC"): (3000, 500), ("USDC", "LINK"): (3000,),
            ("WETH", "WBTC"): (3000,)}  # fmt: skip
_TICK_SPACING = {500: 10, 3000: 60}
_MAX_TICK = 887_272
_DEPLOYER_ETHER = 10_000_000
_WRAPPED_ETHER = 1_000_000
# The deployer is the market maker: it must never run dry while prices are pushed around.
_MAKER_DOLLARS = 10_000_000_000


def units(symbol: str, amount: Decimal | int) -> int:
    """A token's base units, rounded down."""
    return int(Decimal(amount) * 10 ** _DECIMALS[symbol])


def price_ratio(*, base: TokenInfo, quote: TokenInfo, price: Decimal) -> Fraction:
    """Quote units per base unit, when one base token costs `price` quote tokens."""
    return Fraction(price) * Fraction(10**quote.decimals, 10**base.decimals)


def sqrt_price_x96(ratio: Fraction) -> int:
    """Uniswap V3's square root price (Q64.96) of token1 units per token0 unit."""
    return isqrt((ratio.numerator << 192) // ratio.denominator)


def deployment_create(rpc: Rpc) -> Deployment:
    """Deploy everything to a fresh development node that unlocks its accounts. Takes well under a second."""
    accounts = tuple(str(account).lower() for account in rpc.call("eth_accounts"))
    deployer = accounts[0]
    start_block = int(rpc.call("eth_blockNumber"), 16)
    rpc.call("anvil_setBalance", deployer, hex(_DEPLOYER_ETHER * 10**18))
    chain = Contracts(rpc, sender=deployer)
    contracts = _deploy_uniswap(chain)
    tokens = _deploy_tokens(chain, weth=contracts["weth"])
    _fund_maker(chain, contracts=contracts, tokens=tokens)
    pools = tuple(
        _open_v2(chain, pair=pair, contracts=contracts, tokens=tokens)
        if fee_pips is None
        else _open_v3(chain, pair=pair, contracts=contracts, tokens=tokens, fee_pips=fee_pips)
        for pair in _DEPTH
        for fee_pips in (None, *_V3_FEES[pair])
    )
    feed = contracts_compile()["PriceFeed"]
    feeds = {
        symbol: chain.deploy(feed, f"{symbol} / USD", FEED_DECIMALS, int(price * 10**FEED_DECIMALS))
        for symbol, price in PRICES.items()
    }
    return Deployment(
        chain_id=int(rpc.call("eth_chainId"), 16),
        start_block=start_block,
        deployer=deployer,
        accounts=accounts,
        contracts=contracts,
        tokens=tokens,
        pools=pools,
        feeds=feeds,
    )


def deployment_cached() -> tuple[Path, Deployment]:
    """A state file for `Anvil(state=…)` with everything deployed, and where it is: made once, then reused.

    The key covers all that the result depends on, so an edit of a contract or of this file makes a new one.
    """
    key = content_hash(
        [*contract_sources(), CONTRACTS_DIR / "package-lock.json", Path(__file__), Path(deployment.__file__)]
    )
    state, description = CACHE_DIR / f"chain-{key}.json", CACHE_DIR / f"chain-{key}.deployment.json"
    with file_lock(CACHE_DIR / "chain.lock"):
        known = json_read(description)
        if known is None:
            fresh = CACHE_DIR / f"chain-{key}.new.json"
            fresh.unlink(missing_ok=True)
            anvil = Anvil(CACHE_DIR / "anvil", state=fresh, genesis_at=GENESIS_AT)
            anvil.start()
            try:
                known = deployment_create(anvil.rpc).as_dict()
            finally:
                anvil.stop()
            fresh.replace(state)
            json_write(description, known)
    return state, Deployment.from_dict(known)


def deployment_ensure(rpc: Rpc) -> Deployment:
    """The deployment on somebody else's development node, made when its deployer is still unused."""
    _, known = deployment_cached()
    code = rpc.call("eth_getCode", known.contracts["v3_position_manager"], "latest")
    if code != "0x" and int(rpc.call("eth_chainId"), 16) == CHAIN_ID:
        return known
    return deployment_create(rpc)


def _deploy_uniswap(chain: Contracts) -> dict[str, str]:
    v2, v2_periphery = ("@uniswap", "v2-core", "build"), ("@uniswap", "v2-periphery", "build")
    v3 = ("@uniswap", "v3-core", "artifacts", "contracts")
    v3_periphery = ("@uniswap", "v3-periphery", "artifacts", "contracts")
    router_02 = ("@uniswap", "swap-router-contracts", "artifacts", "contracts")
    weth = chain.deploy(artifact_published(*v2_periphery, "WETH9.json"))
    v2_factory = chain.deploy(artifact_published(*v2, "UniswapV2Factory.json"), chain.sender)
    v2_router = chain.deploy(artifact_published(*v2_periphery, "UniswapV2Router02.json"), v2_factory, weth)
    v3_factory = chain.deploy(artifact_published(*v3, "UniswapV3Factory.sol", "UniswapV3Factory.json"))
    v3_router = chain.deploy(
        artifact_published(*v3_periphery, "SwapRouter.sol", "SwapRouter.json"), v3_factory, weth
    )
    quoter = chain.deploy(
        artifact_published(*v3_periphery, "lens", "QuoterV2.sol", "QuoterV2.json"), v3_factory, weth
    )
    # The descriptor only draws pictures of positions; nothing here asks for one, so its address may be any.
    manager = chain.deploy(
        artifact_published(
            *v3_periphery, "NonfungiblePositionManager.sol", "NonfungiblePositionManager.json"
        ),
        v3_factory,
        weth,
        weth,
    )
    swap_router_02 = chain.deploy(
        artifact_published(*router_02, "SwapRouter02.sol", "SwapRouter02.json"),
        v2_factory,
        v3_factory,
        manager,
        weth,
    )
    return {
        "weth": weth,
        "v2_factory": v2_factory,
        "v2_router": v2_router,
        "v3_factory": v3_factory,
        "v3_router": v3_router,
        "v3_quoter": quoter,
        "v3_position_manager": manager,
        "swap_router_02": swap_router_02,
    }


def _deploy_tokens(chain: Contracts, *, weth: str) -> dict[str, TokenInfo]:
    token = contracts_compile()["Token"]
    tokens = {
        symbol: TokenInfo(
            symbol=symbol,
            name=name,
            decimals=_DECIMALS[symbol],
            address=chain.deploy(token, name, symbol, _DECIMALS[symbol]),
        )
        for symbol, name in _NAMES.items()
    }
    tokens["WETH"] = TokenInfo(symbol="WETH", name="Wrapped Ether", decimals=18, address=weth)
    return tokens


def _fund_maker(chain: Contracts, *, contracts: dict[str, str], tokens: dict[str, TokenInfo]) -> None:
    for symbol, token in tokens.items():
        if symbol == "WETH":
            chain.write(token.address, "deposit()", value=_WRAPPED_ETHER * 10**18)
        else:
            amount = units(symbol, _MAKER_DOLLARS / PRICES[symbol])
            chain.write(token.address, "mint(address,uint256)", chain.sender, amount)
        for spender in ("v2_router", "v3_router", "v3_position_manager"):
            chain.write(token.address, "approve(address,uint256)", contracts[spender], 2**256 - 1)


def _sorted_pair(
    tokens: dict[str, TokenInfo], pair: tuple[str, str]
) -> tuple[TokenInfo, TokenInfo, int, int]:
    """token0, token1 and the units of each that the pool opens with. Uniswap sorts by address."""
    first, second = sorted((tokens[symbol] for symbol in pair), key=lambda token: int(token.address, 16))
    depth = Decimal(_DEPTH[pair])
    return (
        first,
        second,
        units(first.symbol, depth / PRICES[first.symbol]),
        units(second.symbol, depth / PRICES[second.symbol]),
    )


def _open_v2(
    chain: Contracts, *, contracts: dict[str, str], tokens: dict[str, TokenInfo], pair: tuple[str, str]
) -> PoolInfo:
    token0, token1, amount0, amount1 = _sorted_pair(tokens, pair)
    chain.write(
        contracts["v2_router"],
        "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)",
        *(token0.address, token1.address, amount0, amount1, 0, 0, chain.sender, FOREVER),
    )
    (address,) = chain.read(
        contracts["v2_factory"],
        "getPair(address,address)",
        token0.address,
        token1.address,
        returns=["address"],
    )
    return PoolInfo(
        venue="uniswap_v2", address=address, token0=token0.symbol, token1=token1.symbol, fee_pips=3000
    )


def _open_v3(
    chain: Contracts,
    *,
    contracts: dict[str, str],
    tokens: dict[str, TokenInfo],
    pair: tuple[str, str],
    fee_pips: int,
) -> PoolInfo:
    token0, token1, amount0, amount1 = _sorted_pair(tokens, pair)
    manager = contracts["v3_position_manager"]
    chain.write(
        manager,
        "createAndInitializePoolIfNecessary(address,address,uint24,uint160)",
        *(token0.address, token1.address, fee_pips, sqrt_price_x96(Fraction(amount1, amount0))),
    )
    tick = _MAX_TICK // _TICK_SPACING[fee_pips] * _TICK_SPACING[fee_pips]
    chain.write(
        manager,
        "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))",
        (
            token0.address,
            token1.address,
            fee_pips,
            -tick,
            tick,
            amount0,
            amount1,
            0,
            0,
            chain.sender,
            FOREVER,
        ),
    )
    (address,) = chain.read(
        contracts["v3_factory"],
        "getPool(address,address,uint24)",
        *(token0.address, token1.address, fee_pips),
        returns=["address"],
    )
    return PoolInfo(
        venue="uniswap_v3", address=address, token0=token0.symbol, token1=token1.symbol, fee_pips=fee_pips
    )
