"""The deposits' kinds of work. Names are also those of bells and tasks."""

from apps.core.work import Work, register
from apps.deposits.checking import deposits_check
from apps.deposits.crediting import CREDIT_BELL, deposits_credit
from apps.deposits.domain import DepositState
from apps.deposits.history import RESCAN_BELL
from apps.deposits.models import Deposit, Rescan, Scan, Sweep
from apps.deposits.rescans import rescan_step
from apps.deposits.scanning import SCAN_BELL, network_scan
from apps.deposits.sightings import CHECK_BELL
from apps.deposits.sweep_planning import OPEN_STATES, SWEEP
from apps.deposits.sweeping import sweep_step

_UNREAD = ("created_at", "updated_at", "leased_until", "run_after", "block_time", "last_error", "sender")

CHECK = register(
    Work(
        CHECK_BELL,
        Deposit,
        (DepositState.SEEN.value,),
        perform=deposits_check,
        whole=True,
        chunk=200,
        lease_seconds=60,
        # An endpoint that is away for an hour must not bury what waits for it.
        max_attempts=500,
        backoff_cap_seconds=30,
    )
)
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
SWEEP_WORK = register(
    Work(
        SWEEP,
        Sweep,
        tuple(state.value for state in OPEN_STATES),
        perform=sweep_step,
        chunk=20,
        lease_seconds=60,
        # An endpoint that is away for a day must not bury what it keeps waiting.
        max_attempts=10_000,
        backoff_cap_seconds=30,
    )
)
SCAN = register(
    Work(
        name=SCAN_BELL,
        model=Scan,
        states=("scanning",),
        perform=network_scan,
        # One bounded step per claim, by `run_after`: a network that catches up takes turns with the others.
        chunk=1,
        lease_seconds=120,
        # Scanning never ends; the counter is reset by each look that succeeds.
        max_attempts=32_000,
        backoff_cap_seconds=10,
    )
)
RESCAN = register(
    Work(
        name=RESCAN_BELL,
        model=Rescan,
        states=("asked", "open"),
        perform=rescan_step,
        chunk=1,
        lease_seconds=120,
        # An endpoint that is away for a day must not bury what it keeps waiting.
        max_attempts=10_000,
        backoff_cap_seconds=60,
    )
)
