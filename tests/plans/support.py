"""A platform that is ready to buy, on the test's chain, and the main job run by hand, step by step."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.accounts.models import User
from apps.chain import kinds as chain_kinds
from apps.core import clock, invariants, work
from apps.ledger.domain import AccountKey, AccountKind
from apps.ledger.models import Account
from apps.plans import kinds
from apps.plans.models import Plan, Slot
from apps.sandbox.market import Market as MarketMaker
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.seed import Seeded
from apps.treasury.services import credit_by_hand, gas_book

USDC = 10**6
STEPS: tuple[work.Work[Any], ...] = (
    kinds.OPEN,
    kinds.RESERVE,
    kinds.BATCH,
    kinds.PRICE,
    chain_kinds.SIGN_WORK,
    chain_kinds.SEND_WORK,
    chain_kinds.WATCH_WORK,
    kinds.SETTLE,
)


@dataclass
class Platform:
    """What a test of the main job needs at hand."""

    seeded: Seeded
    node: Anvil
    maker: MarketMaker
    travel: Callable[..., int]
    people: int = 0
    credits: int = 0

    def person(self, *, usdc: int = 0, tier: str = "standard") -> User:
        """A person with `usdc` whole USDC that really lie in the swap wallet."""
        self.people += 1
        user = User.objects.create(email=f"person{self.people}@example.com", fee_tier=tier)
        if usdc:
            self.fund(user, usdc=usdc)
        return user

    def fund(self, user: User, *, usdc: int) -> None:
        self.credits += 1
        self.maker.mint(symbol="USDC", to=self.seeded.wallet.address, units=usdc * USDC)
        credit_by_hand(
            user_id=user.pk,
            asset_id=self.seeded.assets["USDC"].pk,
            amount_units=usdc * USDC,
            reference=f"test-{self.credits}",
            note="test",
            actor="test",
        )

    def plan(self, owner: User, *, buy: str = "WETH", usdc: int = 100, **changes: Any) -> Plan:
        """A daily plan that is due now."""
        now = clock.now()
        values: dict[str, Any] = {
            "owner": owner,
            "market": self.seeded.markets["USDC", buy],
            "name": f"{usdc} USDC into {buy}",
            "amount_units": usdc * USDC,
            "schedule_kind": "hourly",
            "interval": 24,
            "zone": "Europe/Berlin",
            "start_at": now,
            "run_after": now,
            "max_slippage_bps": 200,
        }
        return Plan.objects.create(**{**values, **changes})

    def work_until(self, done: Callable[[], bool], *, rounds: int = 60) -> None:
        """Run step after step, a block after each round, until `done`; the clock moves past waits."""
        for _ in range(rounds):
            for step in STEPS:
                work.drain(step, budget_seconds=5)
                if done():
                    return
            self.node.mine()
            self.travel(seconds=2)
        raise AssertionError(f"not done after {rounds} rounds: {self.state()}")

    def settle(self) -> None:
        """Open what is due, and work until every slot has its outcome."""
        work.drain(kinds.OPEN)
        self.work_until(lambda: not Slot.objects.filter(closed_at__isnull=True).exists())

    def state(self) -> list[tuple[Any, ...]]:
        return list(Slot.objects.values_list("number", "state", "reason", "attempts", "last_error"))

    def balance(self, owner: User, code: str, kind: AccountKind = AccountKind.AVAILABLE) -> int:
        row = Account.objects.filter(kind=kind, owner_id=owner.pk, asset=self.seeded.assets[code]).first()
        return 0 if row is None else int(row.balance_units)

    def platform_balance(self, kind: AccountKind, code: str) -> int:
        return int(
            sum(
                Account.objects.filter(kind=kind, asset=self.seeded.assets[code]).values_list(
                    "balance_units", flat=True
                )
            )
        )


def outcomes(plan: Plan) -> list[tuple[int, str, str]]:
    return list(plan.slots.order_by("number").values_list("number", "state", "reason"))


def in_hours(hours: float, start: datetime | None = None) -> datetime:
    return (start or clock.now()) + timedelta(hours=hours)


__all__ = ["STEPS", "USDC", "AccountKey", "AccountKind", "Platform", "in_hours", "outcomes"]


def books_hold() -> None:
    """All gas booked, every invariant holds."""
    while gas_book().booked:
        pass
    broken = {v.name: v.violations for v in invariants.run_all() if not v.holds}
    assert broken == {}
