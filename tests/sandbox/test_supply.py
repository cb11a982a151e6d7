"""What the sandbox installs: pinned, locked, and naming no registry."""

import json
from pathlib import Path

from eth_utils.crypto import keccak

from apps.sandbox.deploy import deployment_cached
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.compiler import artifact_published, contracts_compile
from apps.sandbox.runtime.node import node_modules_ensure
from apps.sandbox.runtime.paths import CONTRACTS_DIR
from apps.sandbox.runtime.sandbox import Sandbox


def test_npm_packages_are_pinned_and_locked_by_hash_alone() -> None:
    manifest = json.loads((CONTRACTS_DIR / "package.json").read_text())
    lock = json.loads((CONTRACTS_DIR / "package-lock.json").read_text())
    wanted = {**manifest["dependencies"], **manifest["optionalDependencies"]}
    assert all(version[0].isdigit() for version in wanted.values())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not [name for name, entry in packages.items() if "resolved" in entry]


def test_npm_packages_are_installed_once() -> None:
    stamp = node_modules_ensure() / ".tranche-lock-hash"
    installed_at = stamp.stat().st_mtime_ns
    assert node_modules_ensure() == stamp.parent
    assert stamp.stat().st_mtime_ns == installed_at


def test_own_contracts_fit_the_chain_limit() -> None:
    compiled = contracts_compile()
    assert set(compiled) == {"Token", "PriceFeed"}
    assert all(0 < len(artifact.bytecode) < 24_576 for artifact in compiled.values())


def test_the_pair_of_the_factory_is_the_one_whose_hash_the_router_knows() -> None:
    """Router02 computes pair addresses from a hash in its code; any other build would pay into nowhere."""
    router = artifact_published("@uniswap", "v2-periphery", "build", "UniswapV2Router02.json")
    pair = artifact_published("@uniswap", "v2-core", "build", "UniswapV2Pair.json")
    assert keccak(pair.bytecode) in router.bytecode


def test_a_given_node_gets_the_same_contracts_at_the_same_addresses_once(tmp_path: Path) -> None:
    _, known = deployment_cached()
    node = Anvil(tmp_path / "node", block_time_seconds=1)
    node.start()
    try:
        sent = []
        for name in ("first", "second"):
            sandbox = Sandbox(
                tmp_path / name,
                database_url="postgresql://db.test/x",
                redis_url="redis://cache.test/0",
                rpc_url=node.url,
            )
            with sandbox:
                assert sandbox.deployment.contracts == known.contracts
                assert sandbox.deployment.pools == known.pools
                assert sandbox.deployment.feeds == known.feeds
                assert sandbox.market.balance(symbol="USDC", of=sandbox.deployment.deployer) > 0
            sent.append(int(node.rpc.call("eth_getTransactionCount", known.deployer, "latest"), 16))
        assert sent[0] > 40
        assert sent[1] == sent[0]
    finally:
        node.stop()
