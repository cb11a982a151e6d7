"""An EVM node: the `anvil` binary from npm, run directly, and the switches that tests turn on it."""

import http.client
import json
import platform
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.node import node_modules_ensure
from apps.sandbox.runtime.ports import HOST
from apps.sandbox.runtime.processes import Child, child_start_on_free_port
from apps.sandbox.runtime.rpc import Rpc, RpcError

CHAIN_ID = 31_337
_STATE_INTERVAL_SECONDS = 15
# By itself anvil writes each old block's whole state, most of a megabyte, into the home folder of whoever runs
# it and never removes those of a node that was killed: gigabytes an hour of a chain with a block each second.
_STATES_KEPT = 500


class Anvil:
    """One node. With a state file it continues the chain of its last run, and writes it when stopped.

    A continued chain knows its old blocks, receipts and logs, but state only since then, and never of more
    than the last 500 blocks: older balances are an error. Nothing is written outside `directory` and `state`.

    `block_time_seconds=None` mines a block per transaction; `mining=False` mines on demand only.
    """

    def __init__(
        self,
        directory: Path,
        *,
        state: Path | None = None,
        block_time_seconds: int | None = None,
        mining: bool = True,
        genesis_at: int | None = None,
        accounts: int = 10,
    ) -> None:
        self.directory = directory.resolve()
        self.log = self.directory / "anvil.log"
        self._state = state
        self._block_time_seconds = block_time_seconds
        self._mining = mining
        self._genesis_at = genesis_at
        self._accounts = accounts
        self._child: Child | None = None
        self._port: int | None = None
        self._rpc: Rpc | None = None
        self._binary: Path | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            raise SandboxError("anvil was not started")
        return self._port

    @property
    def pid(self) -> int:
        if self._child is None:
            raise SandboxError("anvil was not started")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def rpc(self) -> Rpc:
        if self._rpc is None:
            raise SandboxError("anvil was not started")
        return self._rpc

    def start(self) -> None:
        """Start and wait for an answer; a second start keeps the port."""
        self._binary = anvil_binary()
        self._child, self._port = child_start_on_free_port(self._make, ready=self._ready, port=self._port)
        self._rpc = Rpc(self.url)
        if not self._mining:
            self.mining_manual()
        elif self._block_time_seconds is not None:
            self.mining_interval(seconds=self._block_time_seconds)

    def stop(self) -> None:
        """Stop cleanly; the state file, when there is one, is written."""
        if self._rpc is not None:
            self._rpc.close()
        if self._child is not None:
            self._child.stop(grace_seconds=20)

    def kill(self) -> None:
        """Stop as a crash would: the state file is as old as its last periodic write."""
        if self._child is not None:
            self._child.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    # Mining

    def mining_automatic(self) -> None:
        """A block for every transaction, at once."""
        self.rpc.call("evm_setAutomine", True)

    def mining_interval(self, *, seconds: int) -> None:
        """A block every `seconds`, with or without transactions."""
        self.rpc.call("evm_setIntervalMining", seconds)

    def mining_manual(self) -> None:
        """No block but those of `mine()`: transactions stay in the mempool."""
        self.rpc.call("evm_setAutomine", False)
        self.rpc.call("evm_setIntervalMining", 0)

    def mine(self, *, blocks: int = 1, seconds_between: int | None = None) -> int:
        """Mine blocks now and answer the head's number. `seconds_between` moves the chain's clock."""
        if seconds_between is None:
            self.rpc.call("anvil_mine", hex(blocks))
        else:
            self.rpc.call("anvil_mine", hex(blocks), hex(seconds_between))
        return self.block_number()

    def reorg(self, *, depth: int, transactions: Sequence[tuple[str, int]] = ()) -> None:
        """Replace the last `depth` blocks by others that hold only `transactions`.

        Each of those is a raw signed transaction and the replacing block (0 is the oldest) that takes it.
        """
        self.rpc.call("anvil_reorg", depth, [[raw, block] for raw, block in transactions])

    def transaction_drop(self, transaction_hash: str) -> bool:
        """Forget a transaction of the mempool; whether it was there."""
        return self.rpc.call("anvil_dropTransaction", transaction_hash) is not None

    def base_fee_set(self, *, wei: int) -> None:
        """The next block's base fee; the blocks after it adjust from there."""
        self.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(wei))

    # Time

    def time_set(self, *, at: int) -> None:
        """Set the chain's clock to a Unix time and mine a block there; later blocks run on from it.

        Raises `SandboxError` for a time before the head: blocks never step back.
        """
        head_at = self.block_at()
        if at < head_at:
            raise SandboxError(f"the chain is at {head_at} already and cannot go back to {at}")
        self.rpc.call("anvil_setTime", at)
        self.rpc.call("evm_mine")

    def time_increase(self, *, seconds: int) -> None:
        """Move the chain's clock ahead of where it runs now and mine a block there."""
        self.rpc.call("evm_increaseTime", seconds)
        self.rpc.call("evm_mine")

    def next_block_at(self, *, at: int) -> None:
        """Only say when the next block is; the chain's clock runs on from it."""
        self.rpc.call("evm_setNextBlockTimestamp", at)

    # State

    def snapshot(self) -> str:
        return str(self.rpc.call("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Go back to the snapshot, its time included; each snapshot serves once."""
        if not self.rpc.call("evm_revert", snapshot):
            raise SandboxError(f"the node knows no snapshot {snapshot}")

    def balance_set(self, address: str, *, wei: int) -> None:
        self.rpc.call("anvil_setBalance", address, hex(wei))

    def block_number(self) -> int:
        return int(self.rpc.call("eth_blockNumber"), 16)

    def block_at(self) -> int:
        """The head's Unix time."""
        return int(self.block("latest")["timestamp"], 16)

    def block(self, number: int | str) -> dict[str, Any]:
        """A block with its transactions' hashes. Raises `SandboxError` when there is none."""
        tag = hex(number) if isinstance(number, int) else number
        block: dict[str, Any] | None = self.rpc.call("eth_getBlockByNumber", tag, False)
        if block is None:
            raise SandboxError(f"no block {number}")
        return block

    def _make(self, port: int) -> Child:
        if self._binary is None:
            raise SandboxError("anvil was not started")
        argv: list[str | Path] = [self._binary, "--host", HOST, "--port", str(port)]
        argv += ["--chain-id", str(CHAIN_ID), "--accounts", str(self._accounts), "--quiet"]
        argv += ["--prune-history", str(_STATES_KEPT)]
        if self._genesis_at is not None:
            argv += ["--timestamp", str(self._genesis_at)]
        if self._state is not None:
            argv += ["--state", self._state, "--state-interval", str(_STATE_INTERVAL_SECONDS)]
        return Child(name="anvil", argv=argv, log=self.log, stop_signal=signal.SIGTERM)

    def _ready(self, port: int, _child: Child) -> bool:
        rpc = Rpc(f"http://{HOST}:{port}", timeout_seconds=2)
        try:
            return bool(rpc.call("eth_chainId") == hex(CHAIN_ID))
        except (OSError, http.client.HTTPException, RpcError, ValueError):
            return False
        finally:
            rpc.close()


def chain_state_check(state: Path) -> None:
    """Raise `SandboxError` when a crash cut the state file off: the node itself would only exit."""
    try:
        json.loads(state.read_bytes())
    except ValueError as error:
        raise SandboxError(f"{state} is damaged, probably by a crash; remove {state.parent}") from error


def anvil_binary() -> Path:
    """The platform package's own binary: npm's launcher would put a Node process between it and us."""
    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower(), "amd64"
    )
    package = f"anvil-{platform.system().lower()}-{machine}"
    binary = node_modules_ensure() / "@foundry-rs" / package / "bin" / "anvil"
    if not binary.exists():
        raise SandboxError(f"no anvil for this machine: the lock file has no @foundry-rs/{package}")
    return binary
