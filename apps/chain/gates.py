"""A last word before a first signature: floors above say for their purposes whether now is the time.

Chain knows nothing of pauses or frozen people; who asks for a transaction does, and registers a gate under the
transaction's purpose. Asked inside the signing transaction, so that a kill switch stops what is only queued.
"""

from collections.abc import Callable

from apps.chain.models import OutboundTransaction

_gates: dict[str, Callable[[OutboundTransaction], str]] = {}


def gate_register(purpose: str, gate: Callable[[OutboundTransaction], str]) -> None:
    """`gate(transaction)` says why a transaction of this purpose must not be signed now; empty when it may."""
    _gates[purpose] = gate


def gate_reason(transaction: OutboundTransaction) -> str:
    """Why the transaction must wait; empty when it need not."""
    gate = _gates.get(transaction.purpose)
    return gate(transaction) if gate is not None else ""
