"""Calls and transactions from the node's unlocked accounts: enough ABI to deploy and to make a market."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils.abi import function_signature_to_4byte_selector

from apps.sandbox.runtime.compiler import Artifact
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.rpc import Rpc

# The sandbox's chain has 30 million per block; the largest deployment takes under six.
_GAS = 8_000_000


def argument_types(signature: str) -> list[str]:
    """`f(address,(uint24,bool)[])` has the types `address` and `(uint24,bool)[]`."""
    inner = signature[signature.index("(") + 1 : -1]
    types: list[str] = []
    depth, start = 0, 0
    for position, character in enumerate(inner + ","):
        if character == "," and depth == 0:
            types.append(inner[start:position])
            start = position + 1
        depth += {"(": 1, ")": -1}.get(character, 0)
    return [name for name in types if name]


def call_data(signature: str, *arguments: Any) -> str:
    """Selector and encoded arguments as 0x hex."""
    selector = function_signature_to_4byte_selector(signature)
    return "0x" + (selector + encode(argument_types(signature), arguments)).hex()


@dataclass(frozen=True)
class Write:
    """A call that changes something."""

    address: str
    signature: str
    arguments: tuple[Any, ...]
    value: int = 0

    def request(self) -> dict[str, Any]:
        """As `eth_sendTransaction` wants it, without the sender."""
        data = call_data(self.signature, *self.arguments)
        return {"to": self.address, "data": data, "value": hex(self.value)}


class Contracts:
    """Reads and writes contracts as one unlocked account of the node."""

    def __init__(self, rpc: Rpc, *, sender: str) -> None:
        self.rpc = rpc
        self.sender = sender

    def read(self, address: str, signature: str, *arguments: Any, returns: Sequence[str]) -> tuple[Any, ...]:
        """The decoded result of a call at the head."""
        request = {"from": self.sender, "to": address, "data": call_data(signature, *arguments)}
        answer = bytes.fromhex(self.rpc.call("eth_call", request, "latest").removeprefix("0x"))
        return tuple(decode(list(returns), answer))

    def write(self, address: str, signature: str, *arguments: Any, value: int = 0) -> dict[str, Any]:
        """Send a transaction and answer its receipt; a revert raises `SandboxError`."""
        return self._transact(Write(address, signature, arguments, value).request())

    def write_all(self, writes: Sequence[Write]) -> None:
        """Send several that do not depend on each other, and have them in as few blocks as the node allows."""
        if not writes:
            return
        hashes = [self._send(write.request()) for write in writes]
        self._mine()
        for write, transaction_hash in zip(writes, hashes, strict=True):
            self._succeeded(transaction_hash, to=write.address)

    def send_value(self, address: str, *, wei: int) -> dict[str, Any]:
        """Send native coin."""
        return self._transact({"to": address, "value": hex(wei)})

    def send_first(self, transaction: dict[str, Any]) -> None:
        """Send as the sender's very first transaction (nonce 0), without waiting: the chain takes one such."""
        self.rpc.call(
            "eth_sendTransaction", {"from": self.sender, "gas": hex(_GAS), "nonce": "0x0", **transaction}
        )

    def sent(self, *, mined: bool) -> bool:
        """Whether the sender's first transaction is in a block, or (`mined=False`) at least on its way."""
        block = "latest" if mined else "pending"
        return int(self.rpc.call("eth_getTransactionCount", self.sender, block), 16) > 0

    def first_wait(self) -> None:
        """Until the sender's first transaction is mined."""
        self._mine()
        self._come(lambda: self.sent(mined=True) or None, what=f"the first transaction of {self.sender}")

    def deploy(self, artifact: Artifact, *arguments: Any) -> str:
        """The new contract's address in lower case."""
        inputs: list[dict[str, Any]] = next(
            (entry["inputs"] for entry in artifact.abi if entry["type"] == "constructor"), []
        )
        data = artifact.bytecode + encode([entry["type"] for entry in inputs], arguments)
        return str(self._transact({"data": "0x" + data.hex()})["contractAddress"]).lower()

    def _transact(self, transaction: dict[str, Any]) -> dict[str, Any]:
        transaction_hash = self._send(transaction)
        self._mine()
        return self._succeeded(transaction_hash, to=transaction.get("to", "a new contract"))

    def _send(self, transaction: dict[str, Any]) -> str:
        request = {"from": self.sender, "gas": hex(_GAS), **transaction}
        return str(self.rpc.call("eth_sendTransaction", request))

    def _mine(self) -> None:
        """A block now, when the node mines by the clock or not at all."""
        if not self.rpc.call("anvil_getAutomine"):
            self.rpc.call("evm_mine")

    def _succeeded(self, transaction_hash: str, *, to: str) -> dict[str, Any]:
        """The receipt, once there is one. Raises `SandboxError` for a revert."""
        receipt: dict[str, Any] = self._come(
            lambda: self.rpc.call("eth_getTransactionReceipt", transaction_hash), what=transaction_hash
        )
        if int(receipt["status"], 16) != 1:
            raise SandboxError(f"{transaction_hash} to {to} reverted")
        return receipt

    def _come(self, look: Callable[[], Any], *, what: str) -> Any:
        """What `look` finds once it is in a block."""
        pause = threading.Event()
        for _ in range(1_000):
            found = look()
            if found is not None:
                return found
            pause.wait(0.005)
        raise SandboxError(f"{what} was not mined")
