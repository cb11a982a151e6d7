"""Reads from the chain, with failover. None and *unknown* mean the same; nothing here is cached."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from apps.chain import abi, failover, market
from apps.chain.client import Endpoint, call_params, header, quantity
from apps.chain.domain import Call, CallReverted, Fees, Header, HeadView
from apps.chain.errors import EndpointFailure, RpcError, RpcUnavailable
from apps.chain.models import Network

R = TypeVar("R")

_REVERT_CODE = 3  # EIP-1474 leaves it open; geth, anvil and Erigon use 3 for "execution reverted"


def calls_read(
    *, network_id: UUID, calls: Sequence[Call], block: int | str = "latest"
) -> list[bytes | CallReverted]:
    """`eth_call` each of `calls` against one endpoint and one `block` (a number or a tag), in one request.

    A revert is a result, not an error. Raises `RpcUnavailable` when no endpoint answered, or the node could
    not say (a block that it does not have).
    """
    if not calls:
        return []
    at = _block(block)

    def act(endpoint: Endpoint) -> list[bytes | CallReverted]:
        answers = endpoint.batch([("eth_call", call_params(call, at)) for call in calls])
        return [call_result(answer) for answer in answers]

    return _ask(network_id, act)


def calls_at_head_read(*, network_id: UUID, calls: Sequence[Call]) -> HeadView:
    """The head that an endpoint claims, `calls` at it, and the tip that is usual there, from the same endpoint.

    One that cannot show the block that it claims as its head is passed over: it lies, or is several nodes of
    different height behind one URL. Raises `RpcUnavailable` like `calls_read`.
    """

    def act(endpoint: Endpoint) -> HeadView:
        head = header(endpoint.request("eth_getBlockByNumber", ["latest", False]))
        if head is None:
            raise EndpointFailure("no latest block", in_doubt=False)
        at = hex(head.number)
        asked: list[tuple[str, Sequence[Any]]] = [("eth_call", call_params(call, at)) for call in calls]
        *answers, tip = endpoint.batch([*asked, ("eth_maxPriorityFeePerGas", [])])
        try:
            # A node that suggests no tip has none to tell; what is signed asks it again, and other methods too.
            priority = 0 if isinstance(tip, RpcError) else quantity(tip)
            return HeadView(head, [call_result(answer) for answer in answers], priority)
        except RpcError:
            # The calls may be at fault, which is no reason to rest an endpoint, or the block.
            if header(endpoint.request("eth_getBlockByNumber", [at, False])) is None:
                raise EndpointFailure("cannot show a block that it claims to have") from None
            raise

    return _ask(network_id, act)


def gas_estimates_read(*, network_id: UUID, calls: Sequence[Call]) -> list[int | CallReverted]:
    """`eth_estimateGas` of each of `calls` at the head, in one request: units of gas, or that it would revert.

    Raises `RpcUnavailable` when no endpoint answered or the node could not say.
    """
    if not calls:
        return []

    def act(endpoint: Endpoint) -> list[int | CallReverted]:
        # Said, since many nodes take `pending` by themselves: some execute their whole mempool before each estimate.
        answers = endpoint.batch([("eth_estimateGas", call_params(call, "latest")) for call in calls])
        return [_gas_result(answer) for answer in answers]

    return _ask(network_id, act)


def max_fee_read(*, network_id: UUID) -> int:
    """What a unit of gas may cost a transaction that is signed now, in wei; `Retryable` when over the cap."""
    return market.fees_market(Network.objects.get(pk=network_id)).max_fee_units


def native_balance_read(*, network_id: UUID, address: str, block: int | str = "latest") -> int:
    """The native balance of an address at `block`, in base units."""
    return _ask(
        network_id, lambda endpoint: quantity(endpoint.request("eth_getBalance", [address, _block(block)]))
    )


def native_balances_read(
    *, network_id: UUID, addresses: Sequence[str], block: int | str = "latest"
) -> list[int]:
    """The native balances of `addresses` at `block` from one endpoint, in their order, in base units."""
    at = _block(block)

    def act(endpoint: Endpoint) -> list[int]:
        answers = endpoint.batch([("eth_getBalance", [address, at]) for address in addresses])
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        return [quantity(answer) for answer in answers]

    return _ask(network_id, act) if addresses else []


def token_balances_read(
    *, network_id: UUID, token: str, addresses: Sequence[str], block: int | str = "latest"
) -> list[int | None]:
    """`balanceOf` of `addresses` at `block`, in their order; None where the contract reverts or says no number."""
    # Encoded by hand, since there may be a hundred thousand of them.
    prefix = "0x" + abi.selector("balanceOf(address)").hex() + "0" * 24
    answers = calls_read(
        network_id=network_id,
        calls=[Call(token, prefix + address[2:]) for address in addresses],
        block=block,
    )
    return [
        int.from_bytes(answer[:32], "big") if isinstance(answer, bytes) and len(answer) >= 32 else None
        for answer in answers
    ]


def fees_read(*, network_id: UUID) -> Fees:
    """What a transaction that is signed now may pay per unit of gas; raises `Retryable` over the network's cap."""
    return market.fees_market(Network.objects.get(pk=network_id))


def token_balance_read(*, network_id: UUID, token: str, address: str, block: int | str = "latest") -> int:
    """`balanceOf` at `block`, in base units; raises `RpcUnavailable` when the contract reverts."""
    data = abi.call_data("balanceOf(address)", [address])
    result = calls_read(network_id=network_id, calls=[Call(token, data)], block=block)[0]
    if isinstance(result, CallReverted) or len(result) < 32:
        raise RpcUnavailable("balanceOf gave no number")
    return int(abi.decode(["uint256"], result)[0])


def block_number_read(*, network_id: UUID) -> int:
    """What an endpoint says its head is. Not a basis for finality: see `Network.watched_block`."""
    return _ask(network_id, lambda endpoint: quantity(endpoint.request("eth_blockNumber", [])))


def block_read(*, network_id: UUID, block: int | str = "latest") -> Header | None:
    """A header by number or tag; None means unknown, not absent."""
    return _ask(
        network_id, lambda endpoint: header(endpoint.request("eth_getBlockByNumber", [_block(block), False]))
    )


def _ask(network_id: UUID, act: Callable[[Endpoint], R]) -> R:
    try:
        return failover.ask(network_id, act)
    except RpcError as error:
        raise RpcUnavailable(str(error)) from None


def _block(block: int | str) -> str:
    return hex(block) if isinstance(block, int) else block


def _gas_result(answer: object) -> int | CallReverted:
    if isinstance(answer, RpcError):
        return _reverted(answer)
    return quantity(answer)


def _reverted(error: RpcError) -> CallReverted:
    if error.data or error.code == _REVERT_CODE or "revert" in error.message.lower():
        return CallReverted(abi.revert_reason(error.data), error.data)
    raise error


def call_result(answer: object) -> bytes | CallReverted:
    """A batch's answer to `eth_call`; raises the node's `RpcError` when it is not a revert."""
    if isinstance(answer, RpcError):
        return _reverted(answer)
    if not isinstance(answer, str) or not answer.startswith("0x"):
        raise EndpointFailure("malformed call result")
    try:
        return bytes.fromhex(answer[2:])
    except ValueError:
        raise EndpointFailure("malformed call result") from None
