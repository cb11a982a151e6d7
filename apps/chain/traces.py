"""Internal transfers: native coin that contracts send, which leaves no log. From either kind of trace, in one form.

`trace_block` (Erigon, Nethermind, reth, anvil) lists calls with their place in the tree; the `callTracer` of
`debug_traceBlockByHash` (geth) nests them. What is counted is the same in both, so that a transfer keeps its position
whichever node shows it: successful calls, creations and self-destructs that move value, depth first, without the
transaction's own call and without precompiled contracts (which only some nodes list).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.chain.client import hash32, quantity
from apps.chain.errors import EndpointFailure

PRECOMPILED_BELOW = 0x10000
_MOVES = frozenset({"CALL", "CREATE", "CREATE2", "SELFDESTRUCT"})


@dataclass(frozen=True, slots=True)
class InternalTransfer:
    """One of a transaction's internal transfers; `position` counts from 0."""

    transaction_hash: str
    position: int
    sender: str
    receiver: str
    amount_units: int


def from_trace_block(answer: Any, *, block_hash: str) -> list[InternalTransfer]:
    """Decode `trace_block`; every trace must name the block that was asked for."""
    if not isinstance(answer, list):
        raise EndpointFailure("malformed traces")
    found: list[InternalTransfer] = []
    counts: dict[str, int] = {}
    failed: list[Sequence[int]] = []
    last = ""
    try:
        for trace in answer:
            if hash32(trace["blockHash"]) != block_hash:
                raise EndpointFailure("traced another block than asked for")
            if trace.get("transactionHash") is None:
                continue  # a block's reward
            transaction_hash = hash32(trace["transactionHash"])
            if transaction_hash != last:
                last, failed = transaction_hash, []
            address = list(trace["traceAddress"])
            if trace.get("error"):
                failed.append(address)
            if not address or any(address[: len(root)] == root for root in failed):
                continue
            moved = _parity(trace)
            if moved is not None:
                position = counts[transaction_hash] = counts.get(transaction_hash, -1) + 1
                found.append(InternalTransfer(transaction_hash, position, *moved))
    except (KeyError, TypeError, AttributeError):
        raise EndpointFailure("malformed traces") from None
    return found


def _parity(trace: Mapping[str, Any]) -> tuple[str, str, int] | None:
    kind, action = trace["type"], trace["action"]
    if kind == "suicide":
        sender, receiver, value = action["address"], action["refundAddress"], action["balance"]
    elif kind == "create":
        sender, receiver, value = action["from"], (trace.get("result") or {}).get("address"), action["value"]
    elif kind == "call" and action["callType"] == "call":
        sender, receiver, value = action["from"], action["to"], action["value"]
    else:
        return None
    return _counted(sender, receiver, value)


def from_call_tracer(answer: Any, *, transaction_hashes: Sequence[str]) -> list[InternalTransfer]:
    """Decode the frames that `callTracer` gives per transaction, in the block's order."""
    if not isinstance(answer, list) or len(answer) != len(transaction_hashes):
        raise EndpointFailure("traced another block than asked for")
    found: list[InternalTransfer] = []
    try:
        for entry, transaction_hash in zip(answer, transaction_hashes, strict=True):
            if entry.get("txHash", transaction_hash).lower() != transaction_hash or "result" not in entry:
                raise EndpointFailure("traced another block than asked for")
            moves = [
                moved
                for frame in _frames(entry["result"])
                if (moved := _counted(frame.get("from"), frame.get("to"), frame.get("value") or "0x0"))
            ]
            found += [InternalTransfer(transaction_hash, place, *moved) for place, moved in enumerate(moves)]
    except (KeyError, TypeError, AttributeError):
        raise EndpointFailure("malformed traces") from None
    return found


def _frames(top: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Successful frames that may move value, depth first; not the top one, and nothing of what was reverted."""
    if top.get("error"):
        return
    stack = list(reversed(top.get("calls") or []))
    while stack:
        frame = stack.pop()
        if frame.get("error"):
            continue
        if frame["type"] in _MOVES:
            yield frame
        stack.extend(reversed(frame.get("calls") or []))


def _counted(sender: Any, receiver: Any, value: Any) -> tuple[str, str, int] | None:
    """Lower-case addresses and units, when there is something to count."""
    if value == "0x0" or receiver is None:
        return None
    units = quantity(value)
    if not units or quantity(receiver) < PRECOMPILED_BELOW:
        return None
    return sender.lower(), receiver.lower(), units
