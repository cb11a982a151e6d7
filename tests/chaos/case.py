"""One row of the table."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.world import World
from tests.support.stack import Stack

SAME = "the books of the undisturbed run, all invariants"


@dataclass(frozen=True)
class Case:
    """One row of the table. `during` runs once the plans are due; `but` plans do not end in a slot."""

    name: str
    fault: str
    how: str
    invariant: str = SAME
    failpoints: dict[str, str] = field(default_factory=dict)
    fires: str = ""
    # `during` releases the failpoint; otherwise it is released as the plans fall due.
    late: bool = False
    during: Callable[[Stack, World, random.Random], None] | None = None
    arm: Callable[[Stack, World], dict[str, str]] | None = None
    check: Callable[[Stack, World], list[str]] | None = None
    but: int = 0
    smoke: bool = False
    # The proxy must have spoiled an answer, or the case proves nothing.
    faulty: bool = False
    # Played with deposits, sweeps and withdrawals (tests/chaos/money.py) instead of plans.
    money: bool = False
