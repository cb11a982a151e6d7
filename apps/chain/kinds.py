"""The chain's kinds of work. Each name is also its doorbell and its Celery task.

`chain.sign` belongs on queue `signing` (the only worker with SIGNER_KEYS), the others on queue `chain`.
"""

from apps.chain.models import NetworkWatch, OutboundTransaction, Recheck
from apps.chain.rechecking import transactions_recheck
from apps.chain.sending import transaction_send
from apps.chain.signing import transaction_sign
from apps.chain.transitions import RECHECK, SEND, SIGN, WATCH
from apps.chain.watching import network_watch
from apps.core.work import Work, register

SIGN_WORK = register(
    Work(
        name=SIGN,
        model=OutboundTransaction,
        states=("queued",),
        perform=transaction_sign,
        # A signature is quick, an endpoint that times out is not: few rows per lease.
        chunk=20,
        lease_seconds=60,
        # An endpoint that is away for an hour must not bury what waits for it.
        max_attempts=500,
        backoff_cap_seconds=30,
    )
)
SEND_WORK = register(
    Work(
        name=SEND,
        model=OutboundTransaction,
        states=("signed",),
        perform=transaction_send,
        chunk=20,
        lease_seconds=60,
        max_attempts=500,
        backoff_cap_seconds=30,
    )
)
WATCH_WORK = register(
    Work(
        name=WATCH,
        model=NetworkWatch,
        states=("watching",),
        perform=network_watch,
        chunk=1,
        lease_seconds=60,
        # Watching never ends; the counter is reset by each look that succeeds.
        max_attempts=32_000,
        backoff_cap_seconds=10,
    )
)
RECHECK_WORK = register(
    Work(
        name=RECHECK,
        model=Recheck,
        states=("open",),
        perform=transactions_recheck,
        whole=True,
        once_per_drain=True,
        chunk=200,
        lease_seconds=60,
        # It ends when the chain says where the transaction is, however long no endpoint answers.
        max_attempts=32_000,
        backoff_cap_seconds=30,
    )
)
