"""What blocks moved to addresses of ours: Transfer logs, native coin, internal transfers. Raw JSON-RPC throughout.

An answer is believed as far as it can be checked against the headers that we hold. Blocks that may still change are
asked for by hash (EIP-234); final ones by range, where every log must name the hash we hold and the range's end must
be that block for the node too. A block without logs must not be contradicted by its own bloom filter: if it is, its
receipts decide. What one endpoint cannot show is unknown, and another one is asked.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from apps.chain import failover
from apps.chain.client import BATCH, Endpoint, header
from apps.chain.domain import Header, HeldBlock, Reading
from apps.chain.errors import AnswerTooLarge, BlockUnknown, EndpointFailure, RpcError, RpcUnavailable
from apps.chain.looking import BUDGET_SECONDS, Look, Match, parts
from apps.chain.models import RpcEndpoint


def movements_read(
    *,
    network_id: UUID,
    blocks: Sequence[HeldBlock],
    match: Match,
    by_hash: bool,
    whole: bool = True,
    traced: bool = False,
    traces_required: bool = False,
    avoid: UUID | None = None,
) -> Reading:
    """Everything that `blocks` (in a row, canonical) moved to addresses that `match` calls ours, from one endpoint.

    Without `whole` only Transfer logs are looked for, which costs the node far less than bodies and traces.
    `avoid` names the endpoint to ask last. Zero amounts and ERC-721 are left out. With `traced` internal transfers are
    read where the endpoint can; `traces_required` refuses one that cannot.
    Raises `AnswerTooLarge` (ask for fewer blocks) or `RpcUnavailable`: nothing may be concluded.
    """
    last = "no endpoint is usable"
    for row, endpoint in _in_order(network_id, avoid):
        started = time.monotonic()
        look = Look(row, endpoint, blocks, match, whole, ends=started + BUDGET_SECONDS)
        try:
            movements, complete = look.read(
                by_hash=by_hash, traced=traced and whole, required=traces_required
            )
        except AnswerTooLarge as error:
            if len(blocks) > 1:
                raise
            last = f"{row.name}: {error}"
            continue
        except BlockUnknown as error:
            last = f"{row.name}: {error}"
            continue
        except EndpointFailure as error:
            failover.failure_record(row, error)
            last = f"{row.name}: {error}"
            continue
        failover.success_record(row)
        return Reading(movements, row.id, look.seen, time.monotonic() - started, complete)
    raise RpcUnavailable(last)


def blocks_read(*, network_id: UUID, first: int, last: int) -> list[Header]:
    """Headers of final blocks that we do not hold (any more): in a row, each naming the one before.

    Every endpoint that can show the last of them must show the same. Raises `RpcUnavailable`.
    """
    said = "no endpoint is usable"
    for row, endpoint in failover.usable(network_id):
        try:
            found = _row_of_headers(endpoint, first, last)
            for other, second in failover.others(network_id, row):
                shown = header(_one(second, "eth_getBlockByNumber", [hex(last), False]))
                if shown is not None and shown.hash != found[-1].hash:
                    raise RpcUnavailable(f"{row.name} and {other.name} show different blocks at {last}")
        except BlockUnknown as error:
            said = f"{row.name}: {error}"
            continue
        except EndpointFailure as error:
            failover.failure_record(row, error)
            said = f"{row.name}: {error}"
            continue
        return found
    raise RpcUnavailable(said)


def _row_of_headers(endpoint: Endpoint, first: int, last: int) -> list[Header]:
    found: list[Header] = []
    for numbers in parts(range(first, last + 1), BATCH):
        for answer in endpoint.read([("eth_getBlockByNumber", [hex(number), False]) for number in numbers]):
            shown = None if isinstance(answer, RpcError) else header(answer)
            if shown is None:
                raise BlockUnknown(f"does not show block {first + len(found)}")
            if shown.number != first + len(found) or (found and shown.parent_hash != found[-1].hash):
                raise EndpointFailure("showed blocks that do not follow each other")
            found.append(shown)
    return found


def _in_order(network_id: UUID, avoid: UUID | None) -> Iterator[tuple[RpcEndpoint, Endpoint]]:
    """Usable endpoints, the one to avoid at the end."""
    late = []
    for pair in failover.usable(network_id):
        if pair[0].id == avoid:
            late.append(pair)
        else:
            yield pair
    yield from late


def _one(endpoint: Endpoint, method: str, params: Sequence[Any]) -> Any:
    answer = endpoint.read([(method, params)])[0]
    if isinstance(answer, RpcError):
        raise EndpointFailure(str(answer), in_doubt=False)
    return answer
