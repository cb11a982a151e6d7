"""The beat schedule, in code. django-celery-beat copies it to the database, where operators see it."""

from datetime import timedelta
from typing import Any

from workers.task import QUEUE_OF, RING_EXPIRES_SECONDS

_EVERY: dict[str, timedelta] = {
    # Re-rings whatever is due: the upper bound of what a flushed Redis can delay.
    "work.tick": timedelta(seconds=1),
    "providers.snapshots": timedelta(seconds=10),
    "treasury.gas": timedelta(seconds=5),
    # What became final is credited within about a second, what a reorg took is taken back in any case.
    "deposits.ready": timedelta(seconds=1),
    "deposits.reorgs": timedelta(seconds=10),
    "deposits.sweep_plan": timedelta(seconds=30),
    # Twice within a minute or two: that is what it takes to call a difference a divergence.
    "treasury.reserves": timedelta(seconds=30),
    "deposits.monitor": timedelta(seconds=5),
    # Codes that were never sent do not lie there past their time.
    "mail.blank": timedelta(minutes=1),
    "mail.forget": timedelta(minutes=10),
    # What happened is told within about a second of its commit.
    "notifications.read": timedelta(seconds=1),
    # Once a day for everybody: asked often, so that a kill or an outage costs minutes and not the day.
    "notifications.funds": timedelta(minutes=1),
    "core.partitions": timedelta(hours=1),
    "core.idempotency_purge": timedelta(hours=1),
    "accounts.sessions_purge": timedelta(minutes=10),
    # What was recorded stands in the chain after seconds.
    "accounts.audit_seal": timedelta(seconds=2),
    # One walk along the whole chain a day, in parts: each look goes on with it, or sees that none is due.
    "accounts.audit_check": timedelta(minutes=5),
    "launch.waitlist_purge": timedelta(hours=1),
    "accounts.signin_purge": timedelta(minutes=10),
    "operations.invariants": timedelta(minutes=15),
}


def beat_schedule() -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`: one entry per recurring task, under the task's own name."""
    return {
        name: {
            "task": name,
            "schedule": every,
            "options": {
                "queue": QUEUE_OF[name],
                "expires": RING_EXPIRES_SECONDS,
            },
        }
        for name, every in _EVERY.items()
    }
