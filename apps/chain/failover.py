"""Which endpoint to ask: by priority and health, with a circuit breaker that all processes share through the row.

The breaker counts on PostgreSQL's clock. From `THRESHOLD` failures in a row an endpoint rests for a growing while; when
that is over, one process wins the right to probe it (a conditional UPDATE), and the others go on passing it over.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from threading import local
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection
from django.db.models import DateTimeField, ExpressionWrapper, Func, Q, Value
from django.db.models.functions import Now

from apps.chain.client import Endpoint, header, quantity, timed
from apps.chain.domain import Header
from apps.chain.errors import EndpointFailure, RpcError, RpcUnavailable
from apps.chain.models import ENDPOINT_URL, Network, RpcEndpoint

logger = logging.getLogger(__name__)

R = TypeVar("R")

THRESHOLD = 3
REST_SECONDS = 2.0
REST_CAP_SECONDS = 60.0
PROBE_SECONDS = 15.0

_connections = local()


def url_encrypt(url: str, *, endpoint_id: UUID) -> bytes:
    """The URL as it is kept, bound to its row."""
    return ENDPOINT_URL.encrypt(url.encode(), pk=endpoint_id)


def _connect(row: RpcEndpoint) -> Endpoint:
    """This thread's connection to an endpoint; a new one when the URL was changed or the process forked."""
    pool: dict[UUID, tuple[bytes, Endpoint]] = _connections.__dict__.setdefault("pool", {})
    ciphertext = bytes(row.url_ciphertext)
    held = pool.get(row.id)
    if held is None or held[0] != ciphertext or held[1].pid != os.getpid():
        url = ENDPOINT_URL.decrypt(ciphertext, pk=row.id).decode()
        held = pool[row.id] = (ciphertext, Endpoint(url, name=row.name))
    return held[1]


def _candidates(network_id: UUID) -> list[RpcEndpoint]:
    """Enabled endpoints in the order to ask: healthy before lagging, then by priority."""
    rows = list(
        RpcEndpoint.objects.filter(network_id=network_id, enabled=True)
        .select_related("network")
        .order_by("priority", "id")
    )
    heights = sorted(row.last_block for row in rows if row.last_block is not None)
    if len(heights) < 2:
        return rows
    # The median, not the best: one endpoint that claims a head far ahead must not make all others look late.
    reference = heights[len(heights) // 2]
    lag = rows[0].network.lag_blocks
    return sorted(rows, key=lambda row: row.last_block is not None and row.last_block + lag < reference)


def _admit(row: RpcEndpoint) -> bool:
    """Whether this process may use the endpoint now; wins the probe when its rest is over."""
    if row.failures < THRESHOLD:
        return True
    won = RpcEndpoint.objects.filter(
        Q(open_until__isnull=True) | Q(open_until__lte=_statement_clock()), id=row.id, failures__gte=THRESHOLD
    ).update(open_until=_clock_plus(PROBE_SECONDS))
    return won == 1


def _statement_clock() -> Any:
    return Func(function="clock_timestamp", output_field=DateTimeField())


def _clock_plus(seconds: float) -> Any:
    return ExpressionWrapper(
        _statement_clock() + Value(timedelta(seconds=seconds)), output_field=DateTimeField()
    )


def failure_record(row: RpcEndpoint, error: EndpointFailure) -> None:
    """Count a failure; from the threshold on the endpoint rests, each time twice as long."""
    over = max(0, min(row.failures + 1 - THRESHOLD, 10))
    rest = error.after_seconds or min(REST_CAP_SECONDS, REST_SECONDS * 2.0**over)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE chain_rpcendpoint SET failures = failures + 1, last_error = %s, open_until = CASE"
            " WHEN failures + 1 >= %s THEN clock_timestamp() + make_interval(secs => %s) ELSE open_until END"
            " WHERE id = %s RETURNING failures",
            [str(error)[:300], THRESHOLD, rest, row.id],
        )
        found = cursor.fetchone()
    row.failures = found[0] if found else row.failures + 1
    logger.warning(
        "rpc endpoint failed", extra={"endpoint": row.name, "error": str(error), "failures": row.failures}
    )


def success_record(row: RpcEndpoint) -> None:
    """Close the breaker; writes nothing when it was closed, so that a healthy call costs no UPDATE."""
    if row.failures:
        RpcEndpoint.objects.filter(id=row.id).update(failures=0, open_until=None, last_error="")
        row.failures = 0


def _check_chain(row: RpcEndpoint, endpoint: Endpoint) -> None:
    """Refuse an endpoint of another chain: once per URL, since a URL does not change its chain."""
    if row.chain_checked_at is not None:
        return
    chain_id = quantity(endpoint.request("eth_chainId", []))
    if chain_id != row.network.chain_id:
        raise EndpointFailure(f"wrong chain: says {chain_id}", in_doubt=False, after_seconds=REST_CAP_SECONDS)
    RpcEndpoint.objects.filter(id=row.id).update(chain_checked_at=Now())


def usable(network_id: UUID) -> Iterator[tuple[RpcEndpoint, Endpoint]]:
    """Endpoints that may be asked now, in order, each checked to be on the right chain."""
    for row in _candidates(network_id):
        if not _admit(row):
            continue
        endpoint = _connect(row)
        try:
            _check_chain(row, endpoint)
        except EndpointFailure as error:
            failure_record(row, error)
            continue
        yield row, endpoint


def ask(network_id: UUID, act: Callable[[Endpoint], R]) -> R:
    """`act` on the first endpoint that gives an answer. A read, so that asking another one is harmless.

    Raises `RpcUnavailable` when none answered; the node's own `RpcError` passes through.
    """
    _, result = ask_from(network_id, act)
    return result


def ask_from(
    network_id: UUID, act: Callable[[Endpoint], R], *, errors_fail: bool = False
) -> tuple[RpcEndpoint, R]:
    """Like `ask`, and says which endpoint answered.

    With `errors_fail` a node's error counts against the endpoint too: for questions that a sound node answers.
    """
    last = "no endpoint is usable"
    for row, endpoint in usable(network_id):
        try:
            result = _act(act, endpoint) if errors_fail else act(endpoint)
        except EndpointFailure as error:
            failure_record(row, error)
            last = f"{row.name}: {error}"
            continue
        success_record(row)
        return row, result
    raise RpcUnavailable(last)


def _act(act: Callable[[Endpoint], R], endpoint: Endpoint) -> R:
    try:
        return act(endpoint)
    except RpcError as error:
        raise EndpointFailure(str(error), in_doubt=False) from None


def others(network_id: UUID, than: RpcEndpoint) -> list[tuple[RpcEndpoint, Endpoint]]:
    """Usable endpoints besides one: a second opinion."""
    return [(row, endpoint) for row, endpoint in usable(network_id) if row.id != than.id]


def heights_refresh(network: Network) -> list[tuple[RpcEndpoint, Header]]:
    """Ask every usable endpoint for its head and keep height and latency: what lag is judged by."""
    seen = []
    for row, endpoint in usable(network.id):
        try:
            head, latency = timed(lambda endpoint=endpoint: _act(_head, endpoint))
        except EndpointFailure as error:
            failure_record(row, error)
            continue
        if head is None:
            continue  # unknown is not an answer
        success_record(row)
        RpcEndpoint.objects.filter(id=row.id).update(last_block=head.number, latency_ms=latency)
        row.last_block = head.number
        seen.append((row, head))
    return seen


def _head(endpoint: Endpoint) -> Header | None:
    return header(endpoint.request("eth_getBlockByNumber", ["latest", False]))


def rested(rows: Sequence[RpcEndpoint]) -> int:
    """How many of `rows` have an open breaker, for health pages."""
    return sum(row.failures >= THRESHOLD for row in rows)
