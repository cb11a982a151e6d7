"""What a network shows now, read from one endpoint without believing its head.

Only headers count that an endpoint can show by number and that continue the chain we hold. A null block or
receipt is unknown, never absent. Nothing here writes; `watching` applies an observation if the chain we hold has
not moved meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from apps.chain import failover
from apps.chain.client import Endpoint, header, quantity, receipt
from apps.chain.domain import OUTSTANDING, Header, Receipt, TransactionState, depth
from apps.chain.errors import EndpointFailure, EndpointsDisagree, RpcError
from apps.chain.models import (
    Block,
    Finality,
    Network,
    OutboundTransaction,
    Recheck,
    RecheckState,
    RpcEndpoint,
    TransactionAttempt,
)

STEP = 500  # headers taken in one go
ANCHOR = 32  # how far below the head we begin on a new network
WALK = 64  # headers compared at a time when looking for a fork


@dataclass(frozen=True)
class Foreign:
    """A transaction of our wallet that we did not make, in the block where it took the nonce."""

    block_number: int
    hash: str


@dataclass
class Observation:
    """One endpoint's view. `ancestor` is set on a fork: the last block that both chains share (-1: none held)."""

    tip: Header | None
    headers: list[Header] = field(default_factory=list)
    ancestor: int | None = None
    receipts: dict[str, Receipt] = field(default_factory=dict)
    foreign: dict[UUID, Foreign] = field(default_factory=dict)
    missing: list[UUID] = field(default_factory=list)
    # Transactions whose nonce the chain counts as used, though no receipt was shown: neither stuck nor dropped.
    used: set[UUID] = field(default_factory=set)
    disputed: set[int] = field(default_factory=set)
    # The highest block that the network's rule calls final, unless another endpoint disputes it.
    final: int | None = None
    more: bool = False


def by_number(endpoint: Endpoint, numbers: Sequence[int]) -> list[Header | None]:
    """Headers by number; an endpoint that answers with another number contradicts itself."""
    answers = endpoint.batch([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
    found = []
    for number, answer in zip(numbers, answers, strict=True):
        block = None if isinstance(answer, RpcError) else header(answer)
        if block is not None and block.number != number:
            raise EndpointFailure("showed another block than asked for")
        found.append(block)
    return found


def observe(network: Network) -> Observation:
    """Look at the network through the best endpoint; raises `Retryable` when nothing can be concluded."""
    failover.heights_refresh(network)
    row, seen = failover.ask_from(
        network.id, lambda endpoint: _observe_at(endpoint, network), errors_fail=True
    )
    _second_opinion(network, row, seen)
    return seen


def _observe_at(endpoint: Endpoint, network: Network) -> Observation:
    latest = header(endpoint.request("eth_getBlockByNumber", ["latest", False]))
    if latest is None:
        raise EndpointFailure("no latest block")
    seen = _headers(endpoint, network, latest.number)
    if seen.ancestor is None and seen.tip is not None:
        _transactions(endpoint, network, seen)
        seen.final = _final_number(endpoint, network, seen.tip)
    return seen


def _final_number(endpoint: Endpoint, network: Network, tip: Header) -> int | None:
    """The highest final block under `tip`; None when nothing is, or the node cannot say."""
    number = tip.number - network.confirmations + 1
    if network.finality == Finality.FINALIZED:
        shown = header(endpoint.request("eth_getBlockByNumber", ["finalized", False]))
        if shown is None:
            return None
        number = min(number, shown.number)
    return number if number >= 0 else None


def _headers(endpoint: Endpoint, network: Network, head: int) -> Observation:
    if network.watched_block is None:
        return _extend(endpoint, None, _anchor(network, head), head)
    at = min(head, network.watched_block)
    held = held_hash(network.id, at)
    if held is None:
        return Observation(tip=None, ancestor=-1)
    shown = by_number(endpoint, [at])[0]
    if shown is None:
        raise EndpointFailure("cannot show a block that it claims to have")
    if shown.hash != held:
        return Observation(tip=None, ancestor=_ancestor(endpoint, network, at))
    if head < network.watched_block:
        # Behind, or its chain became shorter: unknown until it shows a block that differs from ours.
        return Observation(tip=None)
    return _extend(endpoint, shown, at + 1, head)


def _anchor(network: Network, head: int) -> int:
    """Where to begin holding headers: below the head, and below whatever open transaction may be mined in."""
    sent = [
        made.sent_block
        for made in TransactionAttempt.objects.filter(
            transaction__in=open_transactions(network.id), sent_block__isnull=False
        ).defer("raw")
        if made.sent_block is not None
    ]
    # After a halt the deposit monitor goes on where it stood.
    kept = [network.keep_from_block] if network.keep_from_block is not None else []
    # What a fork took back may be in any block since.
    kept += Recheck.objects.filter(network=network, state=RecheckState.OPEN).values_list(
        "from_block", flat=True
    )
    return max(0, min([head - ANCHOR, *sent, *kept]))


def _extend(endpoint: Endpoint, last: Header | None, start: int, head: int) -> Observation:
    """Take the headers from `start` on, as far as each names the one before as its parent."""
    end = min(head, start + STEP - 1)
    taken: list[Header] = []
    for shown in by_number(endpoint, range(start, end + 1)):
        if shown is None or (last is not None and shown.parent_hash != last.hash):
            break
        taken.append(shown)
        last = shown
    return Observation(tip=last, headers=taken, more=bool(taken) and end < head and taken[-1].number == end)


def _ancestor(endpoint: Endpoint, network: Network, below: int) -> int:
    """The highest block under `below` that the endpoint and we share; -1 when none of those held is shared."""
    number = below - 1
    while True:
        numbers = range(number, max(-1, number - WALK), -1)
        held = held_hashes(network.id, numbers)
        if not held:
            return -1
        for shown, asked in zip(by_number(endpoint, numbers), numbers, strict=True):
            if asked not in held:
                return -1
            if shown is None:
                raise EndpointFailure("cannot show a block that it claims to have")
            if shown.hash == held[asked]:
                return asked
        number -= WALK


def held_hash(network_id: UUID, number: int) -> str | None:
    """Our canonical hash at a height."""
    return held_hashes(network_id, [number]).get(number)


def held_hashes(network_id: UUID, numbers: Sequence[int]) -> Mapping[int, str]:
    """Our canonical hashes at some heights, where we hold them."""
    return dict(
        Block.objects.filter(
            network_id=network_id, number__in=list(numbers), orphaned_at__isnull=True
        ).values_list("number", "hash")
    )


def open_transactions(network_id: UUID) -> list[OutboundTransaction]:
    """Transactions that may be mined at any moment, or are mined and not yet final; lowest nonce first."""
    states = [*OUTSTANDING, TransactionState.MINED]
    return list(
        OutboundTransaction.objects.filter(network_id=network_id, nonce__isnull=False, state__in=states)
        .select_related("wallet")
        .order_by("wallet_id", "nonce")
    )


def _transactions(endpoint: Endpoint, network: Network, seen: Observation) -> None:
    rows = {row.pk: row for row in open_transactions(network.id)}
    attempts = list(
        TransactionAttempt.objects.filter(transaction_id__in=rows)
        .order_by("transaction_id", "number")
        .defer("raw")
    )
    attempts = [made for made in attempts if made.nonce == rows[made.transaction_id].nonce]
    answers = endpoint.batch([("eth_getTransactionReceipt", [made.hash]) for made in attempts])
    for made, answer in zip(attempts, answers, strict=True):
        got = None if isinstance(answer, RpcError) else receipt(answer)
        if got is None:
            continue
        if got.transaction_hash != made.hash:
            raise EndpointFailure("showed another receipt than asked for")
        seen.receipts[made.hash] = got
    found = {made.transaction_id for made in attempts if made.hash in seen.receipts}
    without = [row for row in rows.values() if row.pk not in found and row.state != TransactionState.MINED]
    newest = {made.transaction_id: made for made in attempts}
    _mempool(
        endpoint,
        [newest[row.pk] for row in without if row.pk in newest and row.state == TransactionState.SENT],
        seen,
    )
    _foreigners(endpoint, network, without, attempts, seen)


def _mempool(endpoint: Endpoint, attempts: Sequence[TransactionAttempt], seen: Observation) -> None:
    """Which broadcast attempts the node does not know (any more)."""
    answers = endpoint.batch([("eth_getTransactionByHash", [made.hash]) for made in attempts])
    seen.missing = [made.pk for made, answer in zip(attempts, answers, strict=True) if answer is None]


def _foreigners(
    endpoint: Endpoint,
    network: Network,
    without: Sequence[OutboundTransaction],
    attempts: Sequence[TransactionAttempt],
    seen: Observation,
) -> None:
    """Nonces of ours that the chain counts as used though no attempt has a receipt: find who used them.

    A missing receipt proves nothing, so the transaction itself must be found, in a block that we hold.
    """
    ours = {made.hash for made in attempts}
    counts: dict[str, int] = {}
    if seen.tip is None:
        return
    for row in without:
        address = row.wallet.address
        if address not in counts:
            counts[address] = _count(endpoint, address, seen.tip.number)
        if row.nonce is None or counts[address] <= row.nonce or row.state == TransactionState.SUPERSEDED:
            continue
        seen.used.add(row.pk)
        found = _user_of_nonce(endpoint, network, address, row.nonce, seen)
        if found is not None and found.hash not in ours:
            seen.foreign[row.pk] = found


def _count(endpoint: Endpoint, address: str, number: int) -> int:
    """Nonces used up to a block; 0 (nothing concluded) when the node cannot say."""
    try:
        return quantity(endpoint.request("eth_getTransactionCount", [address, hex(number)]))
    except RpcError:
        return 0


def _user_of_nonce(
    endpoint: Endpoint, network: Network, address: str, nonce: int, seen: Observation
) -> Foreign | None:
    oldest = (
        Block.objects.filter(network_id=network.id, orphaned_at__isnull=True)
        .order_by("number")
        .values_list("number", flat=True)
        .first()
    )
    if seen.tip is None:
        return None
    low, high = (oldest if oldest is not None else seen.tip.number), seen.tip.number
    while low < high:
        middle = (low + high) // 2
        if _count(endpoint, address, middle) > nonce:
            high = middle
        else:
            low = middle + 1
    block = endpoint.request("eth_getBlockByNumber", [hex(low), True])
    shown = header(block)
    if shown is None or shown.hash != _canonical(network, low, seen):
        return None
    for entry in block.get("transactions") or []:
        if str(entry.get("from", "")).lower() == address and quantity(entry.get("nonce")) == nonce:
            return Foreign(low, str(entry.get("hash")).lower())
    return None


def _canonical(network: Network, number: int, seen: Observation) -> str | None:
    """Hash at a height on the chain as it will be held once `seen` is applied."""
    for shown in seen.headers:
        if shown.number == number:
            return shown.hash
    return held_hash(network.id, number)


def _questions(network: Network, seen: Observation) -> list[int]:
    """The blocks that another endpoint is asked about: where the fork begins, or what would become final."""
    if seen.ancestor is not None:
        return [max(0, seen.ancestor + 1)] if network.watched_block is not None else []
    if seen.tip is None:
        return []
    due = {
        got.block_number
        for got in seen.receipts.values()
        if depth(tip=seen.tip.number, number=got.block_number) >= network.confirmations
    }
    if seen.final is not None and seen.final != network.final_block:
        due.add(seen.final)
    return sorted(due)


def _second_opinion(network: Network, row: RpcEndpoint, seen: Observation) -> None:
    """Ask the other endpoints before a fork is believed or a transaction becomes final.

    Raises `EndpointsDisagree` for a fork that another endpoint does not see; blocks that another endpoint shows
    differently are marked as disputed, and nothing in them is confirmed now.
    """
    numbers = _questions(network, seen)
    if not numbers:
        return
    for other, endpoint in failover.others(network.id, row):
        try:
            shown = by_number(endpoint, numbers)
        except EndpointFailure as error:
            failover.failure_record(other, error)
            continue
        for number, block in zip(numbers, shown, strict=True):
            if block is None:
                continue
            if seen.ancestor is not None:
                if block.hash == held_hash(network.id, number):
                    raise EndpointsDisagree(
                        f"{row.name} and {other.name} show different blocks at {number}", after_seconds=2
                    )
            elif block.hash != _canonical(network, number, seen):
                seen.disputed.add(number)
                if number == seen.final:
                    seen.final = None
