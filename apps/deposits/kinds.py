"""The deposits' kinds of work. Names are also those of bells and tasks."""

from apps.core.work import Work, register
from apps.deposits.crediting import CREDIT_BELL, deposits_credit
from apps.deposits.domain import DepositState
from apps.deposits.models import Deposit

_UNREAD = ("created_at", "updated_at", "leased_until", "run_after", "block_time", "last_error", "sender")

CREDIT = register(
    Work(
        CREDIT_BELL,
        Deposit,
        (DepositState.CONFIRMING.value,),
        advance=deposits_credit,
        unread=(
            *_UNREAD,
            "hand_requested_by",
            "hand_requested_at",
            "hand_note",
            "hand_approved_by",
            "hand_units",
        ),
        chunk=5_000,
        lease_seconds=30,
    )
)
