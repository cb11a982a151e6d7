"""A platform that pays out, on the test's chain, and the steps of a withdrawal run by hand."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.accounts.models import User
from apps.chain import kinds as chain_kinds
from apps.chain import market as gas_market
from apps.chain import services as chain
from apps.chain.models import NetworkWatch, OutboundTransaction
from apps.core import clock, invariants, work
from apps.core.models import Asset
from apps.events.models import Event
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account, Journal
from apps.providers.services.snapshots import price_snapshots_refresh
from apps.sandbox.market import Market as MarketMaker
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.seed import Seeded
from apps.treasury.services import credit_by_hand, gas_book
from apps.withdrawals import services
from apps.withdrawals.kinds import CHECK_WORK, SEND_WORK, SETTLE_WORK
from apps.withdrawals.models import Withdrawal, WithdrawalDestination, WithdrawalRule
from tests.core.api.support import ApiClient, user_with_key

ETHER = 10**18
STEPS: tuple[work.Work[Any], ...] = (
    CHECK_WORK,
    SEND_WORK,
    chain_kinds.SIGN_WORK,
    chain_kinds.SEND_WORK,
    chain_kinds.WATCH_WORK,
    SETTLE_WORK,
)


def outside() -> str:
    """An address of somebody else."""
    return "0x" + secrets.token_hex(20)


@dataclass
class Desk:
    """What a test holds: the platform, and a person with funds and a destination."""

    seeded: Seeded
    node: Anvil
    maker: MarketMaker
    travel: Callable[..., int]
    people: int = 0
    credits: int = 0
    clients: dict[UUID, ApiClient] = field(default_factory=dict)

    def asset(self, code: str) -> Asset:
        return self.seeded.assets[code]

    def rule(self, code: str, **changes: Any) -> WithdrawalRule:
        asset = self.asset(code)
        scale = 10**asset.decimals
        values: dict[str, Any] = {
            "minimum_units": 1,
            "flat_fee_units": scale // 1_000,
            "gas_units": 65_000,
            "person_daily_units": 1_000_000 * scale,
            "platform_hourly_units": 1_000_000 * scale,
            **changes,
        }
        rule, _ = WithdrawalRule.objects.update_or_create(asset=asset, defaults=values)
        services.payouts_allow(asset_id=asset.pk)
        chain.wallet_cap_set(
            wallet_id=self.seeded.wallet.pk,
            asset_id=asset.pk,
            per_transaction_units=10**40,
            daily_units=10**42,
        )
        return rule

    def person(self) -> User:
        self.people += 1
        user, client = user_with_key(f"person{self.people}@example.org")
        self.clients[user.pk] = client
        return user

    def operator(self) -> User:
        self.people += 1
        return User.objects.create(email=f"operator{self.people}@example.org", is_staff=True)

    def fund(self, user: User, code: str, units: int) -> None:
        """Units that really lie in the hot wallet, credited to the person."""
        self.credits += 1
        if code == "ETH":
            self.maker.send_ether(to=self.seeded.wallet.address, wei=units)
        else:
            self.maker.mint(symbol=code, to=self.seeded.wallet.address, units=units)
        self.credit(user, code, units)

    def credit(self, user: User, code: str, units: int) -> None:
        self.credits += 1
        credit_by_hand(
            user_id=user.pk,
            asset_id=self.asset(code).pk,
            amount_units=units,
            reference=f"test-{self.credits}",
            note="test",
            actor="test",
        )

    def destination(self, user: User, address: str = "") -> str:
        """A destination that has rested."""
        row = services.destination_add(user_id=user.pk, address=address or outside(), label="mine")
        past = clock.now() - timedelta(days=2)
        WithdrawalDestination.objects.filter(pk=row.pk).update(created_at=past, usable_at=past)
        return str(row.address)

    def request(self, user: User, code: str, units: int, destination: str = "") -> Withdrawal:
        return services.withdrawal_request(
            user_id=user.pk,
            asset=self.asset(code),
            amount_units=units,
            destination=destination or self.destination(user),
        )

    def due(self) -> None:
        """Whatever waits for its next try may have it now; prices are fresh."""
        now = clock.now()
        for model in (NetworkWatch, OutboundTransaction, Withdrawal):
            model._default_manager.update(run_after=now)
        gas_market.cache_forget()

    def step(self, *steps: work.Work[Any]) -> None:
        for one in steps:
            self.due()
            work.drain(one, budget_seconds=5)

    def work_until(self, done: Callable[[], bool], *, rounds: int = 30) -> None:
        for _ in range(rounds):
            for one in STEPS:
                self.step(one)
            if done():
                return
            self.node.mine()
        raise AssertionError(f"not done after {rounds} rounds: {self.state()}")

    def finish(self) -> None:
        """Work until every withdrawal is over, and book the gas."""
        self.work_until(lambda: not Withdrawal.objects.filter(closed_at__isnull=True).exists())
        while gas_book().booked:
            pass

    def state(self) -> list[tuple[Any, ...]]:
        return list(Withdrawal.objects.values_list("state", "reason", "detail", "wait_reason", "last_error"))

    def balance(self, owner: User, code: str, kind: AccountKind = AccountKind.AVAILABLE) -> int:
        row = Account.objects.filter(kind=kind, owner_id=owner.pk, asset=self.asset(code)).first()
        return 0 if row is None else int(row.balance_units)

    def platform_units(self, kind: AccountKind, code: str) -> int:
        rows = Account.objects.filter(kind=kind, asset=self.asset(code))
        return sum(int(units) for units in rows.values_list("balance_units", flat=True))

    def on_chain(self, code: str, address: str) -> int:
        if code == "ETH":
            return int(self.node.rpc.call("eth_getBalance", address, "latest"), 16)
        return self.maker.balance(symbol=code, of=address)

    def prices(self) -> None:
        price_snapshots_refresh()

    def api(self, user: User) -> ApiClient:
        return self.clients[user.pk]


def topics(row: Withdrawal) -> list[str]:
    return list(Event.objects.filter(object_id=row.pk).order_by("sequence").values_list("topic", flat=True))


def journals(row: Withdrawal) -> list[str]:
    """What was booked for it: the last part of each reference."""
    found = Journal.objects.filter(reference__startswith=f"withdrawal:{row.pk}:").order_by("id")
    return [reference.rsplit(":", 1)[1] for reference in found.values_list("reference", flat=True)]


def books_hold() -> None:
    """Every invariant, ledger against chain included: at the head, which the test may have moved by itself."""
    NetworkWatch.objects.update(run_after=clock.now())
    work.drain(chain_kinds.WATCH_WORK, budget_seconds=0)
    broken = {v.name: v.violations for v in invariants.run_all() if not v.holds}
    assert broken == {}
