"""How endpoints offer traces, found out once per process."""

import re
from typing import Any
from uuid import UUID

from apps.chain import failover
from apps.chain.client import Endpoint
from apps.chain.domain import HeldBlock
from apps.chain.errors import AnswerTooLarge, EndpointFailure, RpcError
from apps.chain.models import RpcEndpoint

_NOT_OFFERED = re.compile(r"method|module|namespace|not supported|not allowed|whitelist|disabled|plan|tier")
# Some providers refuse a method before JSON-RPC is looked at.
_NOT_SERVED = frozenset({"HTTP 403", "HTTP 404", "HTTP 405"})
# How an endpoint offers traces, found out once per process: a method, or "" for not at all.
_tracing: dict[UUID, str] = {}


def traces_offered(*, network_id: UUID, block: HeldBlock) -> bool | None:
    """Whether any endpoint offers traces; None while not all of them have said. `block` is one that they have."""
    known = True
    for row, endpoint in failover.usable(network_id):
        try:
            method = tracing_method(row, endpoint, block)
        except (EndpointFailure, AnswerTooLarge):
            method = None
        if method:
            return True
        known = known and method is not None
    return False if known else None


def tracing_method(row: RpcEndpoint, endpoint: Endpoint, block: HeldBlock) -> str | None:
    """The method an endpoint traces blocks with, "" when it has none; found out once. None: it did not say."""
    if row.id in _tracing:
        return _tracing[row.id]
    for method in ("trace_block", "debug_traceBlockByHash"):
        try:
            answer = endpoint.read([(method, trace_params(method, block))])[0]
        except EndpointFailure as failure:
            if str(failure) not in _NOT_SERVED:
                raise
            continue
        if not isinstance(answer, RpcError):
            return _tracing.setdefault(row.id, method)
        if answer.code != -32601 and not _NOT_OFFERED.search(answer.message.lower()):
            return None
    return _tracing.setdefault(row.id, "")


def trace_params(method: str, block: HeldBlock) -> list[Any]:
    return [hex(block.number)] if method == "trace_block" else [block.hash, {"tracer": "callTracer"}]
