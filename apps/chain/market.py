"""What gas costs now, per network, within its caps."""

from threading import local
from time import monotonic
from uuid import UUID

from apps.chain import failover
from apps.chain.client import Endpoint, header, quantity
from apps.chain.domain import Fees, fees_initial
from apps.chain.errors import EndpointFailure, RpcError
from apps.chain.models import Network
from apps.core.errors import Retryable

CACHE_SECONDS = 2.0
_cache = local()


def fees_market(network: Network) -> Fees:
    """Fees for a transaction that should go into the next blocks, from the latest header and the node's tip.

    Raises `Retryable` when the base fee alone is over the network's cap: better late than at any price.
    """
    base, priority = _observed(network.id)
    if base > network.max_fee_cap_units:
        raise Retryable("the base fee is over the network's cap", after_seconds=network.block_time_seconds)
    return fees_initial(
        base_fee_units=base,
        priority_fee_units=priority,
        cap_units=network.max_fee_cap_units,
        priority_cap_units=network.priority_fee_cap_units,
    )


def fees_bid(network: Network) -> Fees:
    """Like `fees_market`, for a replacement: never refuses, since the nonce must be freed one way or another."""
    base, priority = _observed(network.id)
    return fees_initial(
        base_fee_units=base,
        priority_fee_units=priority,
        cap_units=network.max_fee_cap_units,
        priority_cap_units=network.priority_fee_cap_units,
    )


def _observed(network_id: UUID) -> tuple[int, int]:
    held: dict[UUID, tuple[float, tuple[int, int]]] = _cache.__dict__.setdefault("held", {})
    found = held.get(network_id)
    if found is None or monotonic() - found[0] > CACHE_SECONDS:
        found = held[network_id] = (monotonic(), failover.ask_from(network_id, _read, errors_fail=True)[1])
    return found[1]


def _read(endpoint: Endpoint) -> tuple[int, int]:
    latest = header(endpoint.request("eth_getBlockByNumber", ["latest", False]))
    if latest is None:
        raise EndpointFailure("no latest block")
    return latest.base_fee_units, _priority(endpoint)


def _priority(endpoint: Endpoint) -> int:
    """The node's suggestion, else the median tip of the last blocks, else nothing."""
    try:
        return quantity(endpoint.request("eth_maxPriorityFeePerGas", []))
    except RpcError:
        pass
    try:
        history = endpoint.request("eth_feeHistory", ["0xa", "latest", [50]])
        rewards = sorted(quantity(block[0]) for block in history["reward"])
        return rewards[len(rewards) // 2] if rewards else 0
    except (RpcError, KeyError, TypeError, IndexError):
        return 0


def cache_forget() -> None:
    """Read anew at the next call (tests move the base fee at once)."""
    _cache.__dict__.clear()
