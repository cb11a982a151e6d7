"""What nodes say about a block that is named by its hash (EIP-1898): receipts, and balances right after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.chain import abi, failover
from apps.chain.client import Endpoint, quantity, receipt
from apps.chain.domain import Call, CallReverted, Receipt
from apps.chain.errors import EndpointFailure, RpcError, RpcUnavailable
from apps.chain.services.reads import call_result


@dataclass(frozen=True, slots=True)
class BalanceAsk:
    """A balance after a block; `token` is empty for the native coin."""

    token: str
    address: str
    block_hash: str


def receipts_read(*, network_id: UUID, hashes: Sequence[str]) -> dict[str, Receipt]:
    """Receipts by transaction hash from one endpoint; one that is left out is unknown, not absent.

    Raises `RpcUnavailable`.
    """
    if not hashes:
        return {}

    def act(endpoint: Endpoint) -> dict[str, Receipt]:
        answers = endpoint.batch([("eth_getTransactionReceipt", [one]) for one in hashes])
        found = {}
        for asked, answer in zip(hashes, answers, strict=True):
            got = None if isinstance(answer, RpcError) else receipt(answer)
            if got is not None and got.transaction_hash != asked:
                raise EndpointFailure("showed another receipt than asked for")
            if got is not None:
                found[asked] = got
        return found

    return failover.ask(network_id, act)


def balances_read(*, network_id: UUID, asks: Sequence[BalanceAsk]) -> list[int | CallReverted | None]:
    """Balances in base units. None where no endpoint has the block's state (any more, or yet).

    Each endpoint is asked for what the ones before could not say: one that keeps old states may stand behind
    others that do not. A token that reverts, or answers no number, has an answer: `CallReverted`. Raises
    `RpcUnavailable` when no endpoint answered at all.
    """
    found: list[int | CallReverted | None] = [None] * len(asks)
    answered = not asks
    for row, endpoint in failover.usable(network_id):
        open_ = [place for place, value in enumerate(found) if value is None]
        if not open_:
            break
        try:
            answers = endpoint.batch([_request(asks[place]) for place in open_])
            values = [_value(asks[place], answer) for place, answer in zip(open_, answers, strict=True)]
        except EndpointFailure as error:
            failover.failure_record(row, error)
            continue
        failover.success_record(row)
        answered = True
        for place, value in zip(open_, values, strict=True):
            found[place] = value
    if not answered:
        raise RpcUnavailable("no endpoint told balances")
    return found


def nonce_read(*, network_id: UUID, address: str, block_hash: str) -> int | None:
    """How many transactions an address has sent up to a block; None when the node does not have its state.

    Raises `RpcUnavailable` when no endpoint answers.
    """

    def act(endpoint: Endpoint) -> int | None:
        try:
            return quantity(endpoint.request("eth_getTransactionCount", [address, _at(block_hash)]))
        except RpcError:
            return None

    return failover.ask(network_id, act)


def first_block_holding(*, network_id: UUID, token: str, address: str, last: int) -> int | None:
    """The first block after which an address had a balance that only grew since; None if it has none after `last`.

    0 where the node does not know that there was nothing before: what is unknown is not left out. Some twenty-five
    requests on the longest chains. Raises `RpcUnavailable` when no endpoint answers.
    """

    ask = BalanceAsk(token, address, "")
    method, (what, _) = _request(ask)

    def holds(endpoint: Endpoint, number: int) -> bool | None:
        (answer,) = endpoint.batch([(method, [what, hex(number)])])
        value = _value(ask, answer)
        # A contract that is not there yet answers nothing, which is a balance of nothing.
        return None if value is None else isinstance(value, int) and value > 0

    def act(endpoint: Endpoint) -> int | None:
        held = holds(endpoint, last)
        if not held:
            return 0 if held is None else None
        low, high, sure = 0, last, True
        while low < high:
            middle = (low + high) // 2
            held = holds(endpoint, middle)
            if held:
                high = middle
            else:
                # Nodes forget from below: what is unknown lies before what is known to be nothing.
                low, sure = middle + 1, held is False
        return low if sure else 0

    return failover.ask(network_id, act)


def _request(ask: BalanceAsk) -> tuple[str, list[Any]]:
    at = _at(ask.block_hash)
    if not ask.token:
        return "eth_getBalance", [ask.address, at]
    call = Call(to=ask.token, data=abi.call_data("balanceOf(address)", [ask.address]))
    return "eth_call", [{"to": call.to, "data": call.data}, at]


def _at(block_hash: str) -> dict[str, Any]:
    # A node that thinks of another block at this height as canonical must not answer.
    return {"blockHash": block_hash, "requireCanonical": True}


def _value(ask: BalanceAsk, answer: Any) -> int | CallReverted | None:
    if not ask.token:
        return None if isinstance(answer, RpcError) else quantity(answer)
    try:
        result = call_result(answer)
    except RpcError:
        return None
    if isinstance(result, CallReverted):
        return result
    return int.from_bytes(result) if len(result) == 32 else CallReverted("balanceOf gave no number")
