"""The kinds of work of a withdrawal, in the order of its steps. Names are also those of bells and tasks."""

from apps.core.work import Work, register
from apps.withdrawals.approving import withdrawals_check
from apps.withdrawals.domain import WithdrawalState
from apps.withdrawals.models import Withdrawal
from apps.withdrawals.moves import CHECK, SEND, SETTLE
from apps.withdrawals.sending import withdrawals_send
from apps.withdrawals.settling import withdrawals_settle

# A node that is away for an hour must not bury what waits for it: many attempts, short pauses.
CHECK_WORK = register(
    Work(
        name=CHECK,
        model=Withdrawal,
        states=(WithdrawalState.REQUESTED,),
        perform=withdrawals_check,
        whole=True,
        chunk=200,
        lease_seconds=60,
        max_attempts=500,
        backoff_cap_seconds=30,
    )
)
SEND_WORK = register(
    Work(
        name=SEND,
        model=Withdrawal,
        states=(WithdrawalState.APPROVED,),
        perform=withdrawals_send,
        whole=True,
        # Two questions to the node per row, in requests of a hundred.
        chunk=500,
        lease_seconds=60,
        max_attempts=500,
        backoff_cap_seconds=30,
    )
)
SETTLE_WORK = register(
    Work(
        name=SETTLE,
        model=Withdrawal,
        states=(WithdrawalState.SENDING, WithdrawalState.SENT),
        advance=withdrawals_settle,
        chunk=1_000,
        max_attempts=500,
        backoff_cap_seconds=30,
    )
)
