"""The chain: published artifacts, real swaps, and the switches of the node."""

import threading
from decimal import Decimal
from pathlib import Path

import pytest

from apps.sandbox.deploy import FOREVER, deployment_cached, units
from apps.sandbox.market import Market
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.contracts import Contracts, argument_types
from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.rpc import RpcError

TRANSFER = {"from": "", "to": "0x00000000000000000000000000000000000000aa", "value": "0x1", "gas": "0x5208"}


@pytest.fixture
def trader(chain_node: Anvil, deployment: Deployment, market: Market) -> Contracts:
    """An account with 100,000 USDC that both routers may take."""
    account = Contracts(chain_node.rpc, sender=deployment.accounts[1])
    market.mint(symbol="USDC", to=account.sender, units=units("USDC", 100_000))
    for router in ("v2_router", "v3_router", "swap_router_02"):
        account.write(
            deployment.token("USDC").address,
            "approve(address,uint256)",
            *(deployment.contracts[router], units("USDC", 100_000)),
        )
    return account


@pytest.mark.parametrize("symbol", ["WETH", "WBTC", "LINK"])
def test_v2_swap_pays_what_the_router_quotes(
    trader: Contracts, deployment: Deployment, market: Market, symbol: str
) -> None:
    router, path = (
        deployment.contracts["v2_router"],
        [deployment.token("USDC").address, deployment.token(symbol).address],
    )
    sold_units = units("USDC", 1_000)
    (quoted,) = trader.read(
        router, "getAmountsOut(uint256,address[])", sold_units, path, returns=["uint256[]"]
    )

    trader.write(
        router,
        "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)",
        *(sold_units, quoted[-1], path, trader.sender, FOREVER),
    )

    assert market.balance(symbol=symbol, of=trader.sender) == quoted[-1]
    assert market.balance(symbol="USDC", of=trader.sender) == units("USDC", 99_000)
    assert quoted[-1] > 0


@pytest.mark.parametrize(
    ("symbol", "fee_pips"), [("WETH", 3000), ("WETH", 500), ("WBTC", 500), ("LINK", 3000)]
)
def test_v3_swap_pays_what_the_quoter_says(
    trader: Contracts, deployment: Deployment, market: Market, symbol: str, fee_pips: int
) -> None:
    sold, bought = deployment.token("USDC").address, deployment.token(symbol).address
    sold_units = units("USDC", 1_000)
    quoted_units, *_ = trader.read(
        deployment.contracts["v3_quoter"],
        "quoteExactInputSingle((address,address,uint256,uint24,uint160))",
        (sold, bought, sold_units, fee_pips, 0),
        returns=["uint256", "uint160", "uint32", "uint256"],
    )

    trader.write(
        deployment.contracts["v3_router"],
        "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
        (sold, bought, fee_pips, trader.sender, FOREVER, sold_units, quoted_units, 0),
    )

    assert market.balance(symbol=symbol, of=trader.sender) == quoted_units
    assert quoted_units > 0


def test_swap_router_02_swaps_too(trader: Contracts, deployment: Deployment, market: Market) -> None:
    trader.write(
        deployment.contracts["swap_router_02"],
        "exactInputSingle((address,address,uint24,address,uint256,uint256,uint160))",
        (
            *(deployment.token("USDC").address, deployment.token("WETH").address, 500, trader.sender),
            *(units("USDC", 2_500), units("WETH", Decimal("0.999")), 0),
        ),
    )
    assert (
        units("WETH", Decimal("0.999")) < market.balance(symbol="WETH", of=trader.sender) < units("WETH", 1)
    )


def test_pools_follow_a_price_by_real_swaps(market: Market, deployment: Deployment) -> None:
    market.move_asset(symbol="WETH", price=Decimal(1_875))
    market.move_asset(symbol="WBTC", price=Decimal("71234.5"))

    assert market.feed_price(symbol="WETH") == Decimal(1_875)
    wanted = {"WETH": Decimal(1_875), "WBTC": Decimal("71234.5"), "LINK": Decimal(15), "USDC": Decimal(1)}
    for pool in deployment.pools:
        price = market.pool_price(pool, base=pool.token0)
        target = wanted[pool.token0] / wanted[pool.token1]
        assert abs(price / target - 1) < Decimal("0.000001"), pool


def test_every_pool_opens_at_its_price_in_both_directions(market: Market, deployment: Deployment) -> None:
    assert len(deployment.pools) == 10
    pool = deployment.pool(venue="uniswap_v3", tokens=("WBTC", "USDC"), fee_pips=500)
    assert abs(market.pool_price(pool, base="WBTC") - 60_000) < Decimal("0.001")
    assert abs(market.pool_price(pool, base="USDC") * 60_000 - 1) < Decimal("0.0000001")


def test_token_refuses_a_stranger_and_an_overdraft(trader: Contracts, deployment: Deployment) -> None:
    usdc = deployment.token("USDC").address
    with pytest.raises(SandboxError, match="reverted"):
        trader.write(usdc, "mint(address,uint256)", trader.sender, 1)
    with pytest.raises(SandboxError, match="reverted"):
        trader.write(usdc, "transfer(address,uint256)", deployment.deployer, units("USDC", 100_001))
    with pytest.raises(SandboxError, match="reverted"):
        trader.write(deployment.feeds["WETH"], "push(int256)", 1)
    assert trader.read(usdc, "decimals()", returns=["uint8"]) == (6,)


def test_manual_mining_keeps_a_transaction_waiting_until_dropped_or_mined(
    chain_node: Anvil, deployment: Deployment
) -> None:
    chain_node.mining_manual()
    transfer = {**TRANSFER, "from": deployment.accounts[2]}
    dropped = chain_node.rpc.call("eth_sendTransaction", transfer)
    assert chain_node.rpc.call("eth_getTransactionReceipt", dropped) is None
    assert chain_node.transaction_drop(dropped)

    kept = chain_node.rpc.call("eth_sendTransaction", {**transfer, "value": "0x2"})
    number = chain_node.mine()

    assert chain_node.rpc.call("eth_getTransactionReceipt", dropped) is None
    assert int(chain_node.rpc.call("eth_getTransactionReceipt", kept)["blockNumber"], 16) == number


def test_reorg_takes_a_transaction_out_of_the_chain(chain_node: Anvil, deployment: Deployment) -> None:
    receipt = Contracts(chain_node.rpc, sender=deployment.accounts[2]).send_value(TRANSFER["to"], wei=1)
    sent = receipt["transactionHash"]
    chain_node.mine(blocks=2)
    head = chain_node.block("latest")

    chain_node.reorg(depth=3)

    assert chain_node.block("latest")["number"] == head["number"]
    assert chain_node.block("latest")["hash"] != head["hash"]
    assert chain_node.rpc.call("eth_getTransactionReceipt", sent) is None


def test_base_fee_is_set_for_the_next_block(chain_node: Anvil) -> None:
    chain_node.base_fee_set(wei=77_000_000_000)
    chain_node.mine()
    assert int(chain_node.block("latest")["baseFeePerGas"], 16) == 77_000_000_000


def test_a_snapshot_brings_back_blocks_and_time(chain_node: Anvil) -> None:
    number, at = chain_node.block_number(), chain_node.block_at()
    snapshot = chain_node.snapshot()
    chain_node.time_increase(seconds=86_400)
    chain_node.mine(blocks=5)

    chain_node.revert(snapshot)

    assert (chain_node.block_number(), chain_node.block_at()) == (number, at)
    chain_node.mine()
    assert chain_node.block_at() - at < 60


def test_interval_mining_runs_on_from_the_time_that_was_set(chain_node: Anvil) -> None:
    at = chain_node.block_at() + 40 * 86_400
    chain_node.mining_interval(seconds=1)
    chain_node.time_set(at=at)
    number = chain_node.block_number()
    pause = threading.Event()
    for _ in range(200):
        if chain_node.block_number() >= number + 2:
            break
        pause.wait(0.05)
    assert chain_node.block_number() >= number + 2
    assert at + 1 <= chain_node.block_at() <= at + 10
    with pytest.raises(SandboxError, match="cannot go back"):
        chain_node.time_set(at=at - 1)


def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    node = Anvil(tmp_path, state=tmp_path / "state.json")
    node.start()
    account = node.rpc.call("eth_accounts")[0]
    sent = Contracts(node.rpc, sender=account).send_value(TRANSFER["to"], wei=1)["transactionHash"]
    node.restart()
    try:
        assert node.block_number() == 1
        assert node.rpc.call("eth_getTransactionReceipt", sent)["status"] == "0x1"
        assert node.rpc.call("eth_getTransactionCount", account, "latest") == "0x1"
    finally:
        node.stop()


def test_the_cached_chain_is_made_once() -> None:
    first, second = deployment_cached(), deployment_cached()
    assert first == second
    assert all(address == address.lower() for address in first[1].contracts.values())


@pytest.mark.parametrize(
    ("signature", "types"),
    [
        ("f()", []),
        ("f(address)", ["address"]),
        ("f(address,(uint24,bool)[],uint256)", ["address", "(uint24,bool)[]", "uint256"]),
        ("f((address,(uint8,uint8)),bytes)", ["(address,(uint8,uint8))", "bytes"]),
    ],
)
def test_argument_types_keeps_tuples_whole(signature: str, types: list[str]) -> None:
    assert argument_types(signature) == types


def test_a_node_keeps_the_last_states_in_memory_and_writes_into_nobodys_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, directory = tmp_path / "home", tmp_path / "node"
    home.mkdir()
    directory.mkdir()
    monkeypatch.setenv("HOME", str(home))
    node = Anvil(directory, state=directory / "state.json")
    node.start()
    try:
        account = node.rpc.call("eth_accounts")[0]
        node.balance_set(account, wei=7)
        for _ in range(600):
            node.rpc.call("evm_mine")
        head = node.block_number()
        assert node.rpc.call("eth_getBalance", account, hex(head - 490)) == "0x7"
        with pytest.raises(RpcError, match="BlockOutOfRange"):
            node.rpc.call("eth_getBalance", account, hex(head - 590))
        assert node.block(head - 590)["number"] == hex(head - 590)
    finally:
        node.stop()

    assert list(home.rglob("*")) == []
    assert {path.name for path in directory.iterdir()} == {"state.json", "anvil.log"}
