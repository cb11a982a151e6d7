"""From sending to the end: what became of the transaction, booked when it is final. Set-based."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from apps.chain import selectors as chain_selectors
from apps.chain import services as chain
from apps.chain.domain import TransactionState
from apps.chain.models import OutboundTransaction
from apps.core import bulk, clock
from apps.core.errors import Terminal
from apps.core.failpoints import reach
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.withdrawals.domain import Reason, WithdrawalState, fee_charged, settle_reference
from apps.withdrawals.errors import Unexplained
from apps.withdrawals.models import Withdrawal
from apps.withdrawals.moves import withdrawals_move

S = WithdrawalState
POLL_SECONDS = 1.0
JOURNAL_KIND = "withdrawal"
_ENDS = {
    TransactionState.REVERTED: Reason.TRANSACTION_REVERTED,
    TransactionState.CANCELLED: Reason.TRANSACTION_CANCELLED,
    TransactionState.FAILED: Reason.TRANSACTION_REFUSED,
}
_OUT = frozenset({TransactionState.SENT, TransactionState.MINED})


def withdrawals_settle(rows: list[Withdrawal]) -> None:
    """The step of `withdrawals.settle`: follow each row's transaction; book or release when it is final.

    Raises `Unexplained` for a transaction that moved something else than was asked (the row is buried alone).
    """
    transactions = chain_selectors.transactions_get(
        transaction_ids=[row.transaction_id for row in rows if row.transaction_id]
    )
    confirmed: list[Withdrawal] = []
    out: list[Withdrawal] = []
    failed: dict[Reason, list[Withdrawal]] = defaultdict(list)
    unchanged: list[Withdrawal] = []
    tokens = _tokens(rows)
    for row in rows:
        transaction = transactions.get(row.transaction_id) if row.transaction_id else None
        if transaction is None:
            raise Terminal("a withdrawal that is being sent has no transaction")
        state = TransactionState(transaction.state)
        if state == TransactionState.CONFIRMED:
            moved = _moved(transaction, tokens[row.asset_id])
            if moved == row.sent_units:
                confirmed.append(row)
            elif moved == 0:
                failed[Reason.MOVED_NOTHING].append(row)
            else:
                raise Unexplained(f"the transfer moved {moved} units instead of {row.sent_units}")
        elif state in _ENDS:
            failed[_ENDS[state]].append(row)
        elif state in _OUT and row.state == S.SENDING:
            out.append(row)
        else:
            unchanged.append(row)
    _book(confirmed, transactions)
    for reason, members in failed.items():
        details = {row.pk: transactions[_id(row)].reason for row in members}
        withdrawals_move(members, S.FAILED, reason=reason, details=details)
    withdrawals_move(out, S.SENT)
    ended = [*confirmed, *(row for members in failed.values() for row in members)]
    chain.transactions_book(transaction_ids=[_id(row) for row in ended])
    # What is not over is looked at again: a lost ring costs a second.
    bulk.update(
        "withdrawals_withdrawal",
        [row.pk for row in [*unchanged, *out]],
        {},
        constants={"run_after": clock.now() + timedelta(seconds=POLL_SECONDS)},
    )
    reach("withdrawals.settle.before_commit")


def _id(row: Withdrawal) -> UUID:
    if row.transaction_id is None:
        raise Terminal("a withdrawal that is being sent has no transaction")
    return row.transaction_id


def _tokens(rows: Sequence[Withdrawal]) -> dict[UUID, str | None]:
    """The token's address of each asset, None for native coin."""
    places = chain_selectors.asset_places(asset_ids={row.asset_id for row in rows})
    return {
        asset_id: place.token.address if place.token is not None else None
        for asset_id, place in places.items()
    }


def _moved(transaction: OutboundTransaction, token: str | None) -> int:
    """Units of the asset that left the hot wallet, as the receipt says; negative if some came."""
    return -dict(chain_selectors.transaction_effects(transaction)).get(token, 0)


def _book(rows: Sequence[Withdrawal], transactions: dict[UUID, OutboundTransaction]) -> None:
    """One journal each: the hold becomes what left, the fee that was due, and what is given back of the quote."""
    if not rows:
        return
    keys: dict[UUID, tuple[AccountKey, AccountKey, AccountKey, AccountKey]] = {}
    for row in rows:
        keys[row.pk] = (
            AccountKey(AccountKind.HELD, row.asset_id, row.user_id),
            AccountKey(AccountKind.CUSTODY, row.asset_id, ref=transactions[_id(row)].wallet.address),
            AccountKey(AccountKind.FEES, row.asset_id),
            AccountKey(AccountKind.AVAILABLE, row.asset_id, row.user_id),
        )
    accounts = accounts_open(keys={key for group in keys.values() for key in group})
    drafts = []
    for row in rows:
        transaction = transactions[_id(row)]
        row.gas_cost_units = transaction.gas_cost_units
        row.charged_units = fee_charged(
            quoted_units=row.fee_units,
            flat_units=row.flat_fee_units,
            gas_cost_units=transaction.gas_cost_units,
            numerator=row.gas_numerator,
            denominator=row.gas_denominator,
        )
        held, custody, fees, available = (accounts[key] for key in keys[row.pk])
        postings = [
            Posting(held, -row.amount_units),
            Posting(custody, row.sent_units),
            Posting(fees, row.charged_units),
            Posting(available, row.fee_units - row.charged_units),
        ]
        drafts.append(
            JournalDraft(
                JOURNAL_KIND,
                settle_reference(row.pk),
                [posting for posting in postings if posting.amount_units],
                {"gas_cost_units": str(transaction.gas_cost_units)},
            )
        )
    journals_post(drafts=drafts)
    reach("withdrawals.settle.posted")
    withdrawals_move(
        rows,
        S.CONFIRMED,
        columns={
            "charged_units": ("numeric", [row.charged_units for row in rows]),
            "gas_cost_units": ("numeric", [row.gas_cost_units for row in rows]),
        },
    )
