"""How withdrawals change state: many at once, each with its event, and the hold's release where nothing leaves."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.chain import selectors as chain_selectors
from apps.core import bulk, clock, doorbell, work
from apps.core.models import Asset
from apps.events.services import EventDraft, events_publish
from apps.ledger.domain import AccountKey, AccountKind, release
from apps.ledger.services import accounts_open, journals_post
from apps.withdrawals.domain import (
    FINAL,
    RELEASING,
    TRANSITIONS,
    Reason,
    Wait,
    WithdrawalState,
    release_reference,
)
from apps.withdrawals.models import Withdrawal

CHECK, SEND, SETTLE = "withdrawals.check", "withdrawals.send", "withdrawals.settle"
_TABLE = "withdrawals_withdrawal"
_NEXT_BELL = {WithdrawalState.REQUESTED: CHECK, WithdrawalState.APPROVED: SEND}
# With the signer is nothing that a person has to know: they hear of `sent`.
_SILENT = frozenset({WithdrawalState.SENDING})


def withdrawals_move(
    rows: Sequence[Withdrawal],
    state: WithdrawalState,
    *,
    reason: Reason | None = None,
    details: Mapping[UUID, str] | None = None,
    columns: Mapping[str, tuple[str, Sequence[Any]]] | None = None,
) -> None:
    """Move locked `rows` to `state`: holds, rows, events, in a fixed number of statements.

    `details` are texts by row; `columns` further values, as for `bulk.update`. A move makes progress: attempts and
    lease are cleared. Raises `ValueError` for a step that no withdrawal may make.
    """
    if not rows:
        return
    for row in rows:
        if state not in TRANSITIONS[WithdrawalState(row.state)]:
            raise ValueError(f"a withdrawal does not go from {row.state} to {state}")
    if state in RELEASING:
        _holds_release(rows)
    now = clock.now()
    said = [(details or {}).get(row.pk, "")[:300] for row in rows]
    changed = bulk.update(
        _TABLE,
        [row.pk for row in rows],
        {"detail": ("text", said), **(columns or {})},
        constants={
            "state": state.value,
            "reason": reason.value if reason else "",
            "wait_reason": "",
            "run_after": now,
            "buried_at": None,
            "closed_at": now if state in FINAL else None,
        },
        also=work.STEPPED,
        where="t.closed_at IS NULL",
    )
    if changed != len(rows):
        raise RuntimeError("withdrawals moved on while they were locked")
    for row, detail in zip(rows, said, strict=True):
        row.state, row.reason, row.detail, row.wait_reason = state.value, reason or "", detail, ""
        row.closed_at = now if state in FINAL else None
    if state not in _SILENT:
        events_publish(_drafts(rows, f"withdrawal.{state.value}"))
    doorbell.ring(_NEXT_BELL.get(state, ""))


def withdrawals_wait(rows: Sequence[Withdrawal], wait: Wait) -> None:
    """Say at the row why it waits; the caller decides until when."""
    ids = [row.pk for row in rows if row.wait_reason != wait.value]
    bulk.update(_TABLE, ids, {}, constants={"wait_reason": wait.value})


def requested_publish(row: Withdrawal) -> None:
    """The first event, in the transaction of the request."""
    events_publish(_drafts([row], "withdrawal.requested"))


def _holds_release(rows: Sequence[Withdrawal]) -> None:
    keys = {
        row.pk: (
            AccountKey(AccountKind.AVAILABLE, row.asset_id, row.user_id),
            AccountKey(AccountKind.HELD, row.asset_id, row.user_id),
        )
        for row in rows
    }
    accounts = accounts_open(keys={key for pair in keys.values() for key in pair})
    journals_post(
        drafts=[
            release(
                reference=release_reference(row.pk),
                available_id=accounts[keys[row.pk][0]],
                held_id=accounts[keys[row.pk][1]],
                units=row.amount_units,
            )
            for row in rows
        ]
    )


def _drafts(rows: Sequence[Withdrawal], topic: str) -> list[EventDraft]:
    codes = dict(Asset.objects.filter(pk__in={row.asset_id for row in rows}).values_list("pk", "code"))
    transactions = [row.transaction_id for row in rows if row.transaction_id]
    hashes = chain_selectors.attempt_hashes(transaction_ids=transactions) if transactions else {}
    return [_draft(row, topic, codes[row.asset_id], hashes) for row in rows]


def _draft(row: Withdrawal, topic: str, code: str, hashes: Mapping[UUID, str]) -> EventDraft:
    payload = {
        "withdrawal_id": str(row.pk),
        "asset": code,
        "amount_units": str(row.amount_units),
        "fee_units": str(row.fee_units if row.charged_units is None else row.charged_units),
        "sent_units": str(row.sent_units),
        "destination": str(row.destination),
        "reason": str(row.reason),
    }
    if row.transaction_id is not None and row.transaction_id in hashes:
        payload["transaction_hash"] = hashes[row.transaction_id]
    return EventDraft(topic, "person", row.user_id, payload, "withdrawal", row.pk)
