"""Money from outside in, collected, and out again: the second world that cases play with, and what breaks it."""

import random
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection

from apps.accounts.models import User
from apps.chain import services as chain
from apps.chain.models import Network, OutboundTransaction, Recheck, TransactionAttempt, Wallet
from apps.core import clock
from apps.core.models import Asset
from apps.deposits.models import Deposit, DepositRule, Holding, Sweep
from apps.deposits.services import deposit_address_open
from apps.events.models import Event
from apps.ledger.models import Journal
from apps.ledger.selectors import balances_for_owner
from apps.providers.services import price_snapshots_refresh
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.processes import Child
from apps.withdrawals import services as withdrawals
from apps.withdrawals.models import Withdrawal, WithdrawalDestination, WithdrawalRule
from tests.chaos.world import SETTLE_SECONDS, World, people_names
from tests.support.stack import Stack, wait_until
from workers.task import QUEUE_OF

# person, asset, units that an outside wallet sends; then what is withdrawn of them.
_IN = (
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
        return len(self.deposits(state="credited")) == len(_IN)


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
    for code in {code for _, code, _ in _IN}:
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
    for person, code, units in _IN:
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
    planned = [clock.now()]

    def done() -> bool:
        connection.close_if_unusable_or_obsolete()
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
            (index[row.user_id], row.asset.code if row.asset else "", row.state, int(row.credited_units))
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


# What disturbs it

During = Callable[[Stack, Any, random.Random], None]


def told(world: Money, topic: str) -> bool:
    connection.close_if_unusable_or_obsolete()
    return Event.objects.filter(topic=topic, occurred_at__gte=world.since).exists()


def found_again(*, gone: bool) -> Callable[[Stack, Any], list[str]]:
    """Final transactions were looked for after the fork; with `gone`, one was nowhere and was sent again."""

    def check(stack: Stack, world: Money) -> list[str]:
        rows = Recheck.objects.filter(transaction__created_at__gte=world.since)
        wrong = [f"{row}: {row.state}" for row in rows if row.state != "closed"]
        if not rows or gone != rows.filter(reopened_at__isnull=False).exists():
            wrong.append(f"the fault was not met: {list(rows.values('state', 'reopened_at'))}")
        return wrong

    return check


def was(topic: str) -> Callable[[Stack, Any], list[str]]:
    def check(stack: Stack, world: Money) -> list[str]:
        return [] if told(world, topic) else [f"the fault was not met: no {topic}"]

    return check


def mining_held(stack: Stack, world: World) -> dict[str, str]:
    """No block but those of the deposits."""
    _anvil(stack).mining_manual()
    return {}


def released(name: str) -> During:
    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        stack.failpoint_release(name)

    return during


def reserves_checked(stack: Stack, world: Money, chance: random.Random) -> None:
    current_app.send_task("treasury.reserves", queue=QUEUE_OF["treasury.reserves"])


def credit_forked(depth: int, *, name: str = "", limit: int = REORG_LIMIT) -> During:
    """The deposits' blocks go when they are seen (depth 1) or credited; the same transactions come in again later."""

    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        anvil = _anvil(stack)
        if depth > 1:
            anvil.mine(blocks=2)
            wait_until(world.credited, seconds=60, what=lambda: f"credited; now {money_state(world)}")
        else:
            wait_until(lambda: len(world.deposits()) == len(_IN), seconds=60, what="all deposits seen")
        Network.objects.update(reorg_limit=limit)
        if name:
            stack.failpoint_release(name)
        raws = [raw for raw, _ in _raws(anvil, depth)]
        anvil.reorg(depth=depth)
        if depth > limit:
            _halted(world)
        else:
            gone = "deposit.reversed" if depth > 1 else "deposit.orphaned"
            anvil.mine()
            wait_until(
                lambda: told(world, gone), seconds=60, what=lambda: f"{gone}; now {money_state(world)}"
            )
        for raw in raws:
            _send(anvil, raw)
        anvil.mining_interval(seconds=1)
        if depth > limit:
            threading.Event().wait(2)
            _resume()

    return during


def sweep_forked(depth: int, *, gone: bool = False, name: str = "") -> During:
    """A sweep's block goes while it is not final (depth 1), or when it is.

    Then the same transactions are in the blocks that come instead; with `gone` only those that are not ours.
    """

    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        anvil = _anvil(stack)
        wait_until(world.credited, seconds=60, what=lambda: f"credited; now {money_state(world)}")
        anvil.mining_manual()
        money_ask(world)

        def reached(*states: str) -> bool:
            connection.close_if_unusable_or_obsolete()
            return any(
                row.transaction and row.transaction.state in states for row in world.sweeps(state="sweeping")
            )

        def sent() -> bool:
            if not reached("sent"):
                anvil.mine()
                threading.Event().wait(0.7)
            return reached("sent")

        wait_until(sent, seconds=90, what=lambda: f"a sweep in the mempool; now {money_state(world)}")
        anvil.mine()
        wait_until(lambda: reached("mined", "confirmed"), seconds=60, what="a sweep mined")
        if depth == 1:
            anvil.reorg(depth=1)
        else:
            anvil.mine()
            wait_until(
                lambda: OutboundTransaction.objects.filter(
                    purpose="sweep", state="confirmed", created_at__gte=world.since
                ).exists(),
                seconds=60,
                what="a sweep final",
            )
            ours = {
                "0x" + bytes(raw).hex()
                for raw in TransactionAttempt.objects.filter(created_at__gte=world.since).values_list(
                    "raw", flat=True
                )
            }
            raws = _raws(anvil, depth)
            anvil.reorg(depth=depth, transactions=[one for one in raws if not gone or one[0] not in ours])
            _halted(world)
            if name:
                stack.failpoint_release(name)
        anvil.mining_interval(seconds=1)
        if depth > 1:
            threading.Event().wait(2)
            _resume()

    return during


def faulty(*, lasts: float | None = None) -> During:
    """The fault that was set before the deposits ends `lasts` seconds after them, or with the case."""

    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        assert stack.proxy is not None
        if lasts is not None:
            threading.Event().wait(lasts)
            stack.proxy.clear()

    return during


def fault_set(kind: str, **options: Any) -> Callable[[Stack, Any], dict[str, str]]:
    def arm(stack: Stack, world: World) -> dict[str, str]:
        assert stack.proxy is not None
        stack.proxy.fault(kind, **options)
        return {}

    return arm


def switched(stack: Stack, world: Money, chance: random.Random) -> None:
    """A balancer sends logs' questions to a node of another chain, in the middle of a window."""
    assert stack.proxy is not None
    other = Anvil(stack.directory / "elsewhere")
    other.directory.mkdir(parents=True, exist_ok=True)
    other.start()
    try:
        other.mine(blocks=_anvil(stack).block_number() + 5)
        stack.proxy.fault("elsewhere", method="eth_getLogs", upstream=other.url)
        threading.Event().wait(8)
        stack.proxy.clear()
    finally:
        other.stop()


_SKEW = """
from datetime import UTC, datetime, timedelta
import time_machine
time_machine.travel(datetime.now(UTC) + timedelta(seconds={seconds}), tick=True).start()
"""


def twins(*roles: str, skew_seconds: int = 0) -> During:
    """A second set of processes until the case is over; with a skew their machine's clock is wrong."""

    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        directory = stack.directory / "twins"
        directory.mkdir(parents=True, exist_ok=True)
        own = {"HEARTBEAT_DIR": str(directory)}
        if skew_seconds:
            # The machine's clock as Python has it: imported at the start of every process of this twin.
            (directory / "sitecustomize.py").write_text(_SKEW.format(seconds=skew_seconds))
            own["PYTHONPATH"] = str(directory)
        children = [
            Child(
                name=f"{role}-2",
                argv=stack.child(role).argv,
                log=stack.directory / "logs" / f"{role}-2.log",
                environment={**stack.environment(keys=role == "signer"), **own},
                directory=Path(settings.BASE_DIR),
            )
            for role in roles
        ]
        for one in children:
            one.start()
        try:
            if skew_seconds:
                wait_until(
                    lambda: not clock_was_wrong(stack, world), seconds=60, what="the second worker at work"
                )
            money_wait(world)
        finally:
            for one in children:
                one.stop(grace_seconds=14)

    return during


def clock_was_wrong(stack: Stack, world: Money) -> list[str]:
    """The second worker noticed that its machine's clock is wrong, and worked."""
    said = (stack.directory / "logs" / "worker-2.log").read_text()
    return [] if "clock is wrong" in said else ["the fault was not met: its clock was right"]


def _anvil(stack: Stack) -> Anvil:
    assert stack.sandbox.anvil is not None
    return stack.sandbox.anvil


def _raws(anvil: Anvil, depth: int) -> Sequence[tuple[str, int]]:
    """The transactions of the last blocks, each with its place among these."""
    head = anvil.block_number()
    return [
        (anvil.rpc.call("eth_getRawTransactionByHash", one), number - (head - depth + 1))
        for number in range(head - depth + 1, head + 1)
        for one in anvil.block(number)["transactions"]
    ]


def _send(anvil: Anvil, raw: str) -> None:
    try:
        anvil.rpc.call("eth_sendRawTransaction", raw)
    except Exception as error:
        if not any(word in str(error).lower() for word in ("already", "nonce too low")):
            raise


def _halted(world: Money) -> None:
    wait_until(
        lambda: Network.objects.filter(halted_at__isnull=False).exists(),
        seconds=60,
        what=lambda: f"the network halted; now {money_state(world)}",
    )


def _resume() -> None:
    """What an operator does once the node shows the chain that stays; final transactions are looked for by then."""
    for network in Network.objects.filter(halted_at__isnull=False):
        chain.network_resume(network_id=network.pk, actor="chaos")
    Network.objects.update(reorg_limit=REORG_LIMIT)
