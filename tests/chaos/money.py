"""Money from outside in, collected, and out again: the second world that cases play with."""

import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.db import connection

from apps.accounts.models import User
from apps.chain import services as chain
from apps.chain.models import Network, OutboundTransaction, Recheck, Wallet
from apps.core import clock
from apps.core.models import Asset
from apps.deposits.models import Deposit, DepositRule, Holding, Sweep
from apps.deposits.services import deposit_address_open
from apps.ledger.models import Journal
from apps.ledger.selectors import balances_for_owner
from apps.providers.services import price_snapshots_refresh
from apps.withdrawals import services as withdrawals
from apps.withdrawals.models import Withdrawal, WithdrawalDestination, WithdrawalRule
from tests.chaos.world import SETTLE_SECONDS, World, networks_resume, people_names
from tests.support.stack import Stack, wait_until
from workers.task import QUEUE_OF

# person, asset, units that an outside wallet sends; then what is withdrawn of them.
DEPOSITED = (
    (0, "USDC", 500 * 10**6),
    (0, "ETH", 10**18),
    (1, "LINK", 40 * 10**18),
    (1, "USDC", 25 * 10**6),
)
_OUT = ((0, "USDC", 300 * 10**6), (0, "ETH", 4 * 10**17), (1, "LINK", 30 * 10**18))
_OPEN = ("planned", "funding", "sweeping")
REORG_LIMIT = 64


@dataclass(frozen=True)
class Money(World):
    """Two people with an address each, a wallet outside each, and nothing else."""

    since: datetime
    outside: tuple[str, str]
    # An operator resumes the network whenever it halts.
    watched_over: threading.Event = field(default_factory=threading.Event)

    def deposits(self, **having: Any) -> list[Deposit]:
        return list(Deposit.objects.filter(user__in=self.people, **having).select_related("asset", "address"))

    def sweeps(self, **having: Any) -> list[Sweep]:
        return list(
            Sweep.objects.filter(address__user__in=self.people, **having).select_related("transaction")
        )

    def withdrawals(self) -> list[Withdrawal]:
        rows = Withdrawal.objects.filter(user__in=self.people).select_related("asset", "transaction")
        return list(rows.order_by("pk"))

    def credited(self) -> bool:
        connection.close_if_unusable_or_obsolete()
        return len(self.deposits(state="credited")) == len(DEPOSITED)


def money_make(stack: Stack) -> Money:
    names = people_names()
    people = [User.objects.create(email=name) for name in names]
    Network.objects.update(reorg_limit=REORG_LIMIT)
    outside = ("0x" + secrets.token_hex(20), "0x" + secrets.token_hex(20))
    _terms()
    for person, address in zip(people, outside, strict=True):
        deposit_address_open(user_id=person.pk)
        row = withdrawals.destination_add(user_id=person.pk, address=address, label="mine")
        rested = clock.now() - timedelta(days=2)
        WithdrawalDestination.objects.filter(pk=row.pk).update(created_at=rested, usable_at=rested)
    price_snapshots_refresh()
    return Money(people, [], clock.now(), outside)


def _terms() -> None:
    hot = Wallet.objects.get(role="swap")
    for code in {code for _, code, _ in DEPOSITED}:
        asset = Asset.objects.get(code=code)
        scale = 10**asset.decimals
        DepositRule.objects.update_or_create(asset=asset, defaults={"minimum_units": 1})
        WithdrawalRule.objects.update_or_create(
            asset=asset,
            defaults={
                "minimum_units": 1,
                "flat_fee_units": scale // 1_000,
                "gas_units": 65_000,
                "person_daily_units": 1_000_000 * scale,
                "platform_hourly_units": 1_000_000 * scale,
            },
        )
        withdrawals.payouts_allow(asset_id=asset.pk)
        chain.wallet_cap_set(
            wallet_id=hot.pk, asset_id=asset.pk, per_transaction_units=10**40, daily_units=10**42
        )


def money_begin(stack: Stack, world: Money) -> None:
    """An outside wallet pays: a transaction, and a block, for each deposit."""
    market = stack.sandbox.market
    for person, code, units in DEPOSITED:
        address = deposit_address_open(user_id=world.people[person].pk).address
        if code == "ETH":
            market.send_ether(to=address, wei=units)
        else:
            market.mint(symbol=code, to=address, units=units)


def money_ask(world: Money) -> None:
    """Once all is credited: everybody withdraws, and what lies at the addresses is collected."""
    if world.withdrawals():
        return
    wait_until(world.credited, seconds=SETTLE_SECONDS, what=lambda: f"credited; now {money_state(world)}")
    current_app.send_task("deposits.sweep_plan", queue=QUEUE_OF["deposits.sweep_plan"])
    for person, code, units in _OUT:
        withdrawals.withdrawal_request(
            user_id=world.people[person].pk,
            asset=Asset.objects.get(code=code),
            amount_units=units,
            destination=world.outside[person],
        )


def money_wait(world: Money) -> float:
    """Until everything is credited, collected, paid out and final, and all gas is booked."""
    money_ask(world)
    planned, looked = [clock.now()], [clock.now()]

    def done() -> bool:
        connection.close_if_unusable_or_obsolete()
        if world.watched_over.is_set() and clock.now() - looked[0] > timedelta(seconds=3):
            looked[0] = clock.now()
            networks_resume()
        if not world.credited() or any(row.closed_at is None for row in world.withdrawals()):
            return False
        left = Holding.objects.filter(address__user__in=world.people, units__gt=0).exclude(asset__code="ETH")
        if left.exists() and clock.now() - planned[0] > timedelta(seconds=5):
            planned[0] = clock.now()
            current_app.send_task("deposits.sweep_plan", queue=QUEUE_OF["deposits.sweep_plan"])
        if left.exists() or Sweep.objects.filter(state__in=_OPEN).exists():
            return False
        if Recheck.objects.filter(state="open").exists():
            return False
        open_ones = OutboundTransaction.objects.filter(finalized_at__isnull=True)
        unbooked = OutboundTransaction.objects.filter(gas_used__gt=0, gas_booked_at__isnull=True)
        return not (open_ones.exists() or unbooked.exists())

    return wait_until(done, seconds=SETTLE_SECONDS, what=lambda: f"settled; now {money_state(world)}")


def money_state(world: Money) -> list[tuple[Any, ...]]:
    return [
        *((row.asset.code if row.asset else "", row.state, row.last_error) for row in world.deposits()),
        *(("sweep", row.state, row.reason, row.last_error) for row in world.sweeps()),
        *(
            ("withdrawal", row.state, row.reason, row.wait_reason, row.last_error)
            for row in world.withdrawals()
        ),
        *Network.objects.values_list("halted_reason", "watched_block", "final_block"),
    ]


def money_books(world: Money) -> dict[str, Any]:
    """What must be the same however the run was disturbed. Fees follow the price of gas: checked, not compared."""
    journals: Counter[str] = Counter()
    for row in world.deposits():
        for kind in Journal.objects.filter(reference__startswith=f"deposit:{row.pk}:").values_list(
            "kind", flat=True
        ):
            # What was owed meanwhile and paid by the next credit is no credit; that nothing is owed is compared below.
            if kind != "debt_repaid":
                journals["deposits credited"] += -1 if kind == "deposit_reversal" else 1
    for paid in world.withdrawals():
        for kind in Journal.objects.filter(reference__startswith=f"withdrawal:{paid.pk}:").values_list(
            "kind", flat=True
        ):
            journals[kind] += 1
    index = {person.pk: number for number, person in enumerate(world.people)}
    rows = world.withdrawals()
    returned: Counter[tuple[int, str]] = Counter()
    for one in rows:
        returned[index[one.user_id], one.asset.code] += one.fee_units - (one.charged_units or 0)
    return {
        "deposits": sorted(
            (
                index[row.user_id],
                row.asset.code if row.asset else "",
                row.state,
                int(row.credited_units),
                int(row.owed_units),
            )
            for row in world.deposits()
        ),
        "withdrawals": [(index[row.user_id], row.asset.code, row.state, int(row.amount_units)) for row in rows],
        "balances": sorted(
            (index[person.pk], found.asset.code, found.available_units - returned[index[person.pk], found.asset.code],
             found.held_units)
            for person in world.people
            for found in balances_for_owner(owner_id=person.pk)
        ),
        "journals": dict(sorted(journals.items())),
    }  # fmt: skip


def money_check(stack: Stack, world: Money) -> list[str]:
    """Each withdrawal was sent once and arrived in full; nothing but dust for gas is left at an address."""
    wrong = []
    market, node = stack.sandbox.market, stack.sandbox.anvil
    assert node is not None
    index = {person.pk: number for number, person in enumerate(world.people)}
    for row in world.withdrawals():
        sent = OutboundTransaction.objects.filter(reference__startswith=f"withdrawal:{row.pk}").count()
        outside = world.outside[index[row.user_id]]
        there = (
            int(node.rpc.call("eth_getBalance", outside, "latest"), 16)
            if row.asset.code == "ETH"
            else market.balance(symbol=row.asset.code, of=outside)
        )
        if (sent, there) != (1, row.sent_units):
            wrong.append(
                f"withdrawal of {row.asset.code}: {sent} transactions, {there} arrived of {row.sent_units}"
            )
    for person in world.people:
        address = deposit_address_open(user_id=person.pk).address
        left = {code: market.balance(symbol=code, of=address) for code in ("USDC", "LINK")}
        if any(left.values()):
            wrong.append(f"not collected: {left}")
    return wrong
