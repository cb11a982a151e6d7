"""One endpoint's view of one window of blocks, checked against the headers that we hold: see `logs`."""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from apps.chain import abi, traces
from apps.chain.client import BATCH, Endpoint, hash32, header, quantity, results
from apps.chain.domain import HeldBlock, Movement
from apps.chain.errors import AnswerTooLarge, BlockUnknown, EndpointFailure, RpcError
from apps.chain.models import RpcEndpoint
from apps.chain.tracing import trace_params, tracing_method

logger = logging.getLogger(__name__)

TRANSFER = abi.topic(abi.TRANSFER_SIGNATURE)
# Full blocks weigh from 2 kB to megabytes: so many per request that an answer stays near this.
ANSWER_BYTES = 4_000_000
BLOCKS_AT_ONCE = 100
# From so many blocks on logs are asked for in two halves: one is decoded while the node works on the other.
SPLIT_BLOCKS = 64
TRACED_AT_ONCE = 4
BUDGET_SECONDS = 40.0

# Given addresses, those that are ours.
Match = Callable[[Collection[str]], Collection[str]]

_NO_BLOCK = ("unknown block", "not found", "missing", "header", "unavailable", "pruned", "beyond", "latest")


def bloom_bits(value: bytes) -> int:
    """The three bits that a value sets in a block's bloom filter of 2,048 bits (yellow paper, 4.3.1)."""
    digest, bits = abi.keccak_bytes(value), 0
    for place in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[place : place + 2]) & 2047)
    return bits


_TRANSFER_BITS = bloom_bits(bytes.fromhex(TRANSFER[2:]))


@dataclass(slots=True)
class _Body:
    """What is kept of a full block."""

    bloom: int
    transactions: list[str]
    natives: list[dict[str, Any]]


@dataclass
class _Found:
    """Candidates of one window before their receipts are looked at."""

    logs: list[dict[str, Any]] = field(default_factory=list)
    natives: list[tuple[HeldBlock, dict[str, Any]]] = field(default_factory=list)
    internals: list[tuple[HeldBlock, traces.InternalTransfer]] = field(default_factory=list)


def parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _logs_of(answer: Any) -> list[dict[str, Any]]:
    if isinstance(answer, RpcError):
        if any(word in answer.message.lower() for word in _NO_BLOCK):
            raise BlockUnknown(str(answer))
        raise EndpointFailure(str(answer), in_doubt=False)
    if answer is None:
        raise BlockUnknown("answered null for logs")
    if not isinstance(answer, list):
        raise EndpointFailure("malformed logs")
    return answer


@dataclass
class Look:
    """One endpoint's view of one window."""

    row: RpcEndpoint
    endpoint: Endpoint
    blocks: Sequence[HeldBlock]
    match: Match
    whole: bool
    ends: float
    seen: int = 0
    bodies: dict[str, _Body] = field(default_factory=dict)

    def read(self, *, by_hash: bool, traced: bool, required: bool) -> tuple[list[Movement], bool]:
        try:
            logs = self._near() if by_hash else self._far()
            self.seen = len(logs)
            logs += self._kept_back({log["blockHash"] for log in logs})
            found = self._candidates(logs)
            del logs
            complete = self._internals(found, required=required) if traced else False
            return self._movements(found), complete
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            raise EndpointFailure("malformed answer") from None

    def _ask(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        if time.monotonic() > self.ends:
            raise AnswerTooLarge(f"not read within {BUDGET_SECONDS:.0f} s")
        return self.endpoint.read(calls)

    # Logs and blocks

    def _near(self) -> list[dict[str, Any]]:
        """Per block and by its hash, logs and body in one request: what is not on this node's chain is an error."""
        logs: list[dict[str, Any]] = []
        calls: list[tuple[str, Sequence[Any]]] = []
        for block in self.blocks:
            calls.append(("eth_getLogs", [{"blockHash": block.hash, "topics": [TRANSFER]}]))
            calls.append(("eth_getBlockByHash", [block.hash, self.whole]))
        try:
            answers = self._ask(calls)
        except AnswerTooLarge:
            if len(self.blocks) > 1:
                raise
            # Less than a block cannot be asked for: taken as if none were shown, its filter leads to the receipts.
            answers = [[], *self._ask(calls[1:])]
        for block, shown, body in zip(self.blocks, answers[::2], answers[1::2], strict=True):
            of_block = _logs_of(shown)
            if any(log["blockHash"] != block.hash for log in of_block):
                raise EndpointFailure("showed logs of another block than asked for")
            logs += of_block
            self._keep(block, body)
        return logs

    def _far(self) -> list[dict[str, Any]]:
        """By range: every log names a block that we hold, and the range's end is that block for the node too."""
        last = self.blocks[-1]
        half = -(-len(self.blocks) // 2) if len(self.blocks) >= SPLIT_BLOCKS else len(self.blocks)
        ranges = [
            {"fromBlock": hex(part[0].number), "toBlock": hex(part[-1].number), "topics": [TRANSFER]}
            for part in parts(self.blocks, half)
        ]
        light = [] if self.whole else list(parts(self.blocks, BLOCKS_AT_ONCE))
        answers = self._ask_ahead(
            [
                *([("eth_getLogs", [wanted])] for wanted in ranges),
                [("eth_getBlockByNumber", [hex(last.number), False])],
                *([("eth_getBlockByHash", [block.hash, False]) for block in part] for part in light),
            ]
        )
        logs: list[dict[str, Any]] = []
        for _ in ranges:
            logs += _logs_of(next(answers)[0])
        shown = header(_value(next(answers)[0]))
        if shown is None or shown.number != last.number:
            raise BlockUnknown(f"does not show block {last.number}")
        if shown.hash != last.hash:
            raise BlockUnknown(f"shows another block {last.number} than we hold")
        if not {log["blockHash"] for log in logs} <= {block.hash for block in self.blocks}:
            raise BlockUnknown("shows logs of blocks that we do not hold")
        for part, bodies in zip(light, answers, strict=True):
            for block, body in zip(part, bodies, strict=True):
                self._keep(block, body)
        if self.whole:
            self._bodies()
        return logs

    def _bodies(self) -> None:
        """Full blocks, as many at once as their weight allows."""
        size, rest = 8, list(self.blocks)
        while rest:
            part, rest = rest[:size], rest[size:]
            bodies = self._ask([("eth_getBlockByHash", [block.hash, True]) for block in part])
            weight = sum(self._keep(block, body) for block, body in zip(part, bodies, strict=True))
            size = max(1, min(BLOCKS_AT_ONCE, 2 * size, ANSWER_BYTES * len(part) // max(1, weight)))

    def _ask_ahead(self, batches: Sequence[Sequence[tuple[str, Sequence[Any]]]]) -> Iterator[list[Any]]:
        """The answers to several requests, one after the other; the next is under way while one is decoded."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.endpoint.fetch, batches[0])
            for place, calls in enumerate(batches):
                if time.monotonic() > self.ends:
                    raise AnswerTooLarge(f"not read within {BUDGET_SECONDS:.0f} s")
                content = coming.result()
                if place + 1 < len(batches):
                    coming = pool.submit(self.endpoint.fetch, batches[place + 1])
                yield results(content, count=len(calls))

    def _keep(self, block: HeldBlock, shown: Any) -> int:
        """Take from a full block what matters; roughly how many bytes it had."""
        shown = _value(shown)
        if shown is None:
            raise BlockUnknown(f"does not show block {block.number}")
        entries = shown["transactions"]
        if hash32(shown["hash"]) != block.hash or quantity(shown["number"]) != block.number:
            raise EndpointFailure("showed another block than asked for")
        self.bodies[block.hash] = body = _Body(
            bloom=quantity(shown.get("logsBloom") or "0x0"), transactions=entries, natives=[]
        )
        if not self.whole:
            return 2_000 + 70 * len(entries)
        body.transactions = [entry["hash"] for entry in entries]
        body.natives = [
            {name: entry[name] for name in ("hash", "from", "to", "value")}
            for entry in entries
            if entry["value"] != "0x0" and entry.get("to")
        ]
        return 2_000 + sum(600 + len(entry["input"]) for entry in entries)

    def _kept_back(self, with_logs: Collection[str]) -> list[dict[str, Any]]:
        """Transfer logs of blocks that show none though their bloom filter has the topic.

        The filter errs at times, so that the receipts are looked at; an endpoint whose receipts do not fill the
        filter keeps something back.
        """
        found: list[dict[str, Any]] = []
        for block in self.blocks:
            body = self.bodies[block.hash]
            if block.hash in with_logs or body.bloom & _TRANSFER_BITS != _TRANSFER_BITS:
                continue
            logs = [log for got in self._receipts_of(block, body) for log in got["logs"]]
            filled = 0
            for value in {value for log in logs for value in (log["address"], *log["topics"])}:
                filled |= bloom_bits(bytes.fromhex(value[2:]))
            if body.bloom & ~filled:
                raise EndpointFailure(f"keeps back logs of block {block.number}", in_doubt=False)
            kept_back = [log for log in logs if log["topics"] and log["topics"][0] == TRANSFER]
            if kept_back:
                logger.warning(
                    "endpoint left out logs", extra={"endpoint": self.row.name, "block": block.number}
                )
            found += kept_back
        return found

    def _receipts_of(self, block: HeldBlock, body: _Body) -> list[dict[str, Any]]:
        """Every receipt of a block, in one call where the node offers that."""
        answer = self._ask([("eth_getBlockReceipts", [block.hash])])[0]
        if isinstance(answer, RpcError):
            return list(self._receipts(dict.fromkeys(body.transactions, block.hash)).values())
        if answer is None or len(answer) != len(body.transactions):
            raise BlockUnknown(f"does not show the receipts of block {block.number}")
        if any(hash32(got["blockHash"]) != block.hash for got in answer):
            raise EndpointFailure("showed receipts of another block than asked for")
        return list(answer)

    # Candidates

    def _candidates(self, logs: Sequence[dict[str, Any]]) -> _Found:
        """Whatever goes to an address of ours: one question to `match` for the whole window."""
        natives = [(block, entry) for block in self.blocks for entry in self.bodies[block.hash].natives]
        receivers = {log["topics"][2] for log in logs if len(log["topics"]) == 3}
        asked = {"0x" + topic[26:].lower() for topic in receivers}
        asked.update(entry["to"].lower() for _, entry in natives)
        ours = set(self.match(asked)) if asked else set()
        if not ours:
            return _Found()
        topics = {topic for topic in receivers if "0x" + topic[26:].lower() in ours}
        return _Found(
            logs=[log for log in logs if len(log["topics"]) == 3 and log["topics"][2] in topics],
            natives=[(block, entry) for block, entry in natives if entry["to"].lower() in ours],
        )

    def _internals(self, found: _Found, *, required: bool) -> bool:
        """Add internal transfers to addresses of ours. False when the endpoint cannot trace these blocks."""
        shown: list[tuple[HeldBlock, traces.InternalTransfer]] = []
        for part in parts(
            [block for block in self.blocks if self.bodies[block.hash].transactions], TRACED_AT_ONCE
        ):
            method = tracing_method(self.row, self.endpoint, part[0])
            answers = self._ask([(method, trace_params(method, block)) for block in part]) if method else []
            if not method or any(isinstance(answer, RpcError) for answer in answers):
                if required:
                    raise BlockUnknown(f"does not trace block {part[0].number}")
                return False
            for block, answer in zip(part, answers, strict=True):
                shown += [(block, transfer) for transfer in self._transfers(method, block, answer)]
        asked = {transfer.receiver for _, transfer in shown}
        ours = set(self.match(asked)) if asked else set()
        found.internals = [pair for pair in shown if pair[1].receiver in ours]
        return True

    def _transfers(self, method: str, block: HeldBlock, answer: Any) -> list[traces.InternalTransfer]:
        if not answer:
            raise BlockUnknown(f"does not trace block {block.number}")
        if method == "trace_block":
            return traces.from_trace_block(answer, block_hash=block.hash)
        hashes = [hash32(value) for value in self.bodies[block.hash].transactions]
        return traces.from_call_tracer(answer, transaction_hashes=hashes)

    # From candidates to movements

    def _movements(self, found: _Found) -> list[Movement]:
        """Their receipts say whether they succeeded, and where in the transaction a log stands."""
        numbers = {block.hash: block.number for block in self.blocks}
        where = {log["transactionHash"]: log["blockHash"] for log in found.logs}
        where.update({entry["hash"]: block.hash for block, entry in found.natives})
        receipts = self._receipts(where)
        made: list[Movement] = []
        for log in found.logs:
            units = quantity(log["data"][:66]) if len(log["data"]) > 2 else 0
            position = _place_of(log, receipts[log["transactionHash"]])
            if units:
                made.append(
                    Movement(
                        kind="token",
                        address=abi.topic_address(log["topics"][2]),
                        contract=log["address"].lower(),
                        transaction_hash=hash32(log["transactionHash"]),
                        position=position,
                        sender=abi.topic_address(log["topics"][1]),
                        amount_units=units,
                        block_number=numbers[log["blockHash"]],
                        block_hash=log["blockHash"],
                    )
                )
        natives = [
            (block, entry["hash"], 0, entry["from"], entry["to"], quantity(entry["value"]), "native")
            for block, entry in found.natives
            if quantity(receipts[entry["hash"]]["status"]) == 1
        ]
        internals = [
            (
                block,
                one.transaction_hash,
                one.position,
                one.sender,
                one.receiver,
                one.amount_units,
                "internal",
            )
            for block, one in found.internals
        ]
        for block, transaction_hash, position, sender, receiver, units, kind in natives + internals:
            made.append(
                Movement(
                    kind=kind,
                    address=receiver.lower(),
                    contract="",
                    transaction_hash=hash32(transaction_hash),
                    position=position,
                    sender=sender.lower(),
                    amount_units=units,
                    block_number=block.number,
                    block_hash=block.hash,
                )
            )
        return made

    def _receipts(self, where: dict[str, str]) -> dict[str, dict[str, Any]]:
        """Receipts by transaction hash; `where` says in which block each must be."""
        found: dict[str, dict[str, Any]] = {}
        for part in parts(list(where), BATCH):
            answers = self._ask([("eth_getTransactionReceipt", [key]) for key in part])
            for key, answer in zip(part, answers, strict=True):
                got = _value(answer)
                if got is None:
                    raise BlockUnknown("does not show a receipt of a block that it shows")
                if got["transactionHash"] != key:
                    raise EndpointFailure("showed another receipt than asked for")
                if got["blockHash"] != where[key]:
                    raise BlockUnknown("shows a receipt in another block")
                found[key] = got
        return found


def _value(answer: Any) -> Any:
    if isinstance(answer, RpcError):
        raise EndpointFailure(str(answer), in_doubt=False)
    return answer


def _place_of(log: dict[str, Any], receipt: dict[str, Any]) -> int:
    for place, one in enumerate(receipt["logs"]):
        if one["logIndex"] == log["logIndex"]:
            if (
                one["address"] != log["address"]
                or one["topics"] != log["topics"]
                or one["data"] != log["data"]
            ):
                raise EndpointFailure("shows a log that its receipt does not have")
            return place
    raise EndpointFailure("shows a log that its receipt does not have")
