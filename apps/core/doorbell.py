"""The doorbell: after a commit, tell workers that there is something to do. Losing a ring loses only seconds.

`apps` knows no Celery; `workers` installs how to ring. A bell's name is the stable name of the task that answers.
"""

import logging
from collections.abc import Callable

from django.db import transaction

logger = logging.getLogger(__name__)

_ringer: Callable[[str, float], None] | None = None


def install(ringer: Callable[[str, float], None]) -> None:
    """Say how a bell is rung, after so many seconds; called once by `workers`."""
    global _ringer  # noqa: PLW0603
    _ringer = ringer


def ring(name: str, *, after_seconds: float = 0.0) -> None:
    """Ring `name` once the current transaction has committed, or a little later; never fails the caller.

    What is later than the next tick needs no ring.
    """
    if name:
        transaction.on_commit(lambda: _ring(name, after_seconds))


def _ring(name: str, after_seconds: float) -> None:
    if _ringer is None:
        return
    try:
        _ringer(name, after_seconds)
    except Exception as error:  # noqa: BLE001 — the row is committed; beat rings again within seconds
        logger.warning("doorbell not rung", extra={"bell": name, "error": type(error).__name__})
