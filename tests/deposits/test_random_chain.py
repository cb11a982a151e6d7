"""A random chain that grows, forks and takes transactions in again, before nodes that fail at random.

The model knows what the final chain holds, because it asks the node itself; the monitor sees the chain through two
endpoints that lie, forget, refuse and hang up by a schedule drawn from the seed, which is the test's id. Once things
calm down the monitor's credits are the model's, to the last unit. `RANDOM_CHAINS=200` plays 200 chains (seeds 1 to
200) instead of a few.
"""

import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db.models import Sum
from eth_account import Account as Key
from eth_utils.address import to_checksum_address

from apps.accounts.models import User
from apps.chain.models import RpcEndpoint
from apps.chain.services import endpoint_add
from apps.core import clock, invariants, work
from apps.core.models import Asset
from apps.deposits.kinds import CHECK, CREDIT, SCAN
from apps.deposits.models import Deposit, DepositRule, Holding
from apps.deposits.services import deposit_address_open, deposits_ready, reorgs_follow
from apps.events.models import Event
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.models import Account
from apps.ledger.services import accounts_open, journals_post
from apps.sandbox.runtime.contracts import call_data
from apps.treasury.domain import DEPOSITS_REF
from tests.chain.conftest import ETHER, GWEI
from tests.deposits.scanning.conftest import Monitor, chain, monitor, proxy, token
from tests.support import bytecode
from tests.support.rpc_proxy import RpcProxy

__all__ = ["chain", "monitor", "proxy", "token"]

CHAINS = int(os.environ.get("RANDOM_CHAINS", "3"))
PEOPLE, SENDERS, STEPS = 3, 60, 110
DEEPEST = 8
GAS = 150_000

# What may go wrong at an endpoint, and for how many answers (None: until the schedule clears it).
FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("drop_request", {"times": 3}),
    ("drop_answer", {"times": 3}),
    ("garbage", {"times": 2}),
    ("status", {"status": 429, "times": 3}),
    ("delay", {"seconds": 0.6, "times": 2}),
    ("null", {"method": "eth_getLogs"}),
    ("null", {"method": "eth_getBlockByHash", "times": 4}),
    ("null", {"method": "eth_getTransactionReceipt", "times": 4}),
    ("null", {"method": "eth_getBlockByNumber", "times": 4}),
    ("null", {"method": "trace_block", "times": 3}),
    ("error", {"message": "header not found", "times": 3}),
    ("head", {"offset": 400}),
    ("head", {"offset": -4}),
    ("head", {"offset": -60}),
    ("logs_drop", {}),
    ("logs_cap", {"offset": 1}),
    ("logs_range", {"offset": 2}),
    ("pruned", {}),
)


@dataclass(frozen=True)
class Payment:
    """A signed transaction, and what it gives to whom wherever it is mined and succeeds."""

    hash: str
    raw: str
    sender: int
    person: int | None = None
    code: str = ""
    units: int = 0


@dataclass
class Shallows:
    """The chain under test, its people, and everything that was ever signed."""

    monitor: Monitor
    proxies: tuple[RpcProxy, RpcProxy]
    chance: random.Random
    people: list[User]
    assets: dict[str, Asset]
    forwarder: str
    keys: list[Any]
    settled: int
    below: dict[str, int] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)
    spent: Counter[tuple[int, str]] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    next_sender: int = 0

    @property
    def node(self) -> Any:
        return self.monitor.chain.node

    # Transactions. Each account sends one, so that any of them can be mined, left out or moved by itself.

    def sign(self, sender: int, *, to: str, data: str = "0x", value: int = 0, **gives: Any) -> Payment:
        body = {
            "to": to_checksum_address(to),
            "data": data,
            "value": value,
            "nonce": 0,
            "gas": GAS,
            "maxFeePerGas": 100 * GWEI,
            "maxPriorityFeePerGas": self.chance.randint(1, 1_000_000),
            "chainId": self.monitor.network.chain_id,
            "type": 2,
        }
        signed = self.keys[sender].sign_transaction(body)
        made = Payment(
            "0x" + signed.hash.hex().removeprefix("0x"), signed.raw_transaction.to_0x_hex(), sender, **gives
        )
        self.payments[made.hash] = made
        return made

    def pay(self, sender: int) -> Payment:
        """A payment of a random kind to a random person, or something that only looks like one."""
        person = self.chance.randrange(PEOPLE)
        to = deposit_address_open(user_id=self.people[person].pk).address
        units = self.chance.randint(1, 10**6)
        kind = self.chance.choice(["token"] * 4 + ["native"] * 2 + ["internal", "stranger", "failing"])
        self.done[f"paid {kind}"] += 1
        if kind == "native":
            return self.sign(sender, to=to, value=units, person=person, code="ETH", units=units)
        if kind == "internal":
            data = bytecode.words(to)
            return self.sign(
                sender, to=self.forwarder, data=data, value=units, person=person, code="ETH", units=units
            )
        if kind == "stranger":
            data = call_data("transfer(address,uint256)", "0x" + "5a" * 20, units)
            return self.sign(sender, to=self.monitor.usdc.address, data=data)
        if kind == "failing":
            data = call_data("transfer(address,uint256)", to, 10**18)
            return self.sign(sender, to=self.monitor.usdc.address, data=data)
        data = call_data("transfer(address,uint256)", to, units)
        return self.sign(
            sender, to=self.monitor.usdc.address, data=data, person=person, code="USDC", units=units
        )

    def broadcast(self) -> None:
        """One to three payments into the mempool: new ones, or some that a fork left out."""
        lost = self.lost()
        for _ in range(self.chance.randint(1, 3)):
            if lost and self.chance.random() < 0.4:
                self.send(lost.pop(self.chance.randrange(len(lost))))
                self.done["sent again"] += 1
            elif self.next_sender < len(self.keys):
                self.send(self.pay(self.next_sender))
                self.next_sender += 1

    def send(self, payment: Payment) -> None:
        try:
            self.node.rpc.call("eth_sendRawTransaction", payment.raw)
        except Exception as error:
            if not any(word in str(error).lower() for word in ("already", "nonce", "underpriced")):
                raise

    def mined(self) -> dict[str, int]:
        """Where the node has what was signed here, by hash: the truth. No fork goes below `settled`."""
        head = self.node.block_number()
        found = {}
        for number in range(self.settled + 1, head + 1):
            here = {one: number for one in self.node.block(number)["transactions"] if one in self.payments}
            if number <= head - DEEPEST:
                self.settled = number
                self.below.update(here)
            found.update(here)
        return self.below | found

    def lost(self) -> list[Payment]:
        """What is in no block, of accounts that have nothing in one."""
        mined = self.mined()
        used = {self.payments[one].sender for one in mined}
        return [one for one in self.payments.values() if one.sender not in used]

    def mine(self) -> None:
        for _ in range(self.chance.randint(1, 4)):
            if self.chance.random() < 0.7:
                self.broadcast()
            self.monitor.mine()

    def fork(self) -> None:
        """Other blocks at the top: without some of their transactions, with others, in other places and order."""
        depth = min(self.chance.choice([1, 2, 3, 5, 6, DEEPEST]), self.node.block_number() - self.settled - 1)
        if depth < 1:
            return
        head = self.node.block_number()
        gone = [self.payments[one] for one, number in self.mined().items() if number > head - depth]
        fate = self.chance.choice(["all again", "some again", "none again"])
        kept = [
            one
            for one in gone
            if fate == "all again" or (fate == "some again" and self.chance.random() < 0.6)
        ]
        stays = {one.sender for one in kept}
        for one in gone:
            if one.sender not in stays and self.chance.random() < 0.3:
                kept.append(self.pay(one.sender))  # replaced by another transaction of the same account
                stays.add(one.sender)
                self.done["replaced"] += 1
        self.chance.shuffle(kept)
        self.node.reorg(depth=depth, transactions=[(one.raw, self.chance.randrange(depth)) for one in kept])
        mined = self.mined()
        assert all(one.hash in mined for one in kept), "the node did not take what it was to take"
        self.done["forks"] += 1
        self.done["included again"] += sum(one in kept for one in gone)

    # The platform

    def spend(self) -> None:
        """Somebody uses up some of what is available, so that a reversal finds less than it takes back."""
        person, code = self.chance.randrange(PEOPLE), self.chance.choice(["USDC", "ETH"])
        units = self.units(AccountKind.AVAILABLE, person, code)
        if not units:
            return
        units = self.chance.randint(1, units)
        asset_id, owner = self.assets[code].pk, self.people[person].pk
        held, available = (
            AccountKey(kind, asset_id, owner) for kind in (AccountKind.HELD, AccountKind.AVAILABLE)
        )
        fees = AccountKey(AccountKind.FEES, asset_id)
        ids = accounts_open(keys=[held, available, fees])
        name = f"slot:random-{sum(self.done.values())}"
        hold = (Posting(ids[available], -units), Posting(ids[held], units))
        settle = (Posting(ids[held], -units), Posting(ids[fees], units))
        journals_post(
            drafts=[
                JournalDraft("hold", f"{name}:hold", hold),
                JournalDraft("purchase", f"{name}:settle", settle),
            ]
        )
        self.spent[person, code] += units
        self.done["spent"] += 1

    def fault(self) -> None:
        one = self.chance.choice(self.proxies)
        one.clear()
        if self.chance.random() < 0.75:
            kind, options = self.chance.choice(FAULTS)
            one.fault(kind, **options)
            self.done["faults"] += 1

    def due(self) -> None:
        self.monitor.due()
        Deposit.objects.update(run_after=clock.now() - timedelta(seconds=1))

    def look(self) -> None:
        """Some of the platform's work, in any order."""
        for step in self.chance.choices(("watch", "scan", "check", "credit", "follow"), (5, 5, 3, 3, 1), k=4):
            self.step(step)

    def step(self, name: str) -> None:
        self.due()
        if name == "watch":
            self.monitor.chain.watch()
        elif name == "scan":
            work.drain(SCAN, budget_seconds=0)
        elif name == "check":
            work.drain(CHECK, budget_seconds=0)
        elif name == "credit":
            deposits_ready()
            work.drain(CREDIT, budget_seconds=0)
        else:
            reorgs_follow()

    def calm(self) -> None:
        """The nodes are well, the chain only grows: everything comes to an end within a few rounds."""
        for one in self.proxies:
            one.clear()
        RpcEndpoint.objects.update(failures=0, open_until=None)
        self.monitor.fill(self.monitor.network.confirmations + 1)
        for _ in range(40):
            for name in ("watch", "scan", "check", "credit", "follow"):
                self.step(name)
            waiting = Deposit.objects.filter(state__in=["seen", "confirming"]).exists()
            head = self.monitor.network.watched_block == self.node.block_number()
            if head and self.monitor.read_all() and not waiting:
                return
        row = self.monitor.row
        raise AssertionError(
            f"not calm: {row.next_block}, {row.next_final_block}, {row.last_error!r}, {self.states()}"
        )

    def units(self, kind: AccountKind, person: int, code: str) -> int:
        found = Account.objects.filter(kind=kind, owner_id=self.people[person].pk, asset=self.assets[code])
        return int(found.aggregate(units=Sum("balance_units"))["units"] or 0)

    def states(self) -> dict[str, int]:
        return dict(Counter(Deposit.objects.values_list("state", flat=True)))

    def agrees(self) -> None:
        """The monitor's credits, the books and the holdings are what the final chain says."""
        assert self.monitor.network.halted_at is None
        mined = self.mined()
        wanted = {}
        totals: Counter[tuple[int, str]] = Counter()
        for one, number in mined.items():
            payment = self.payments[one]
            receipt = self.node.rpc.call("eth_getTransactionReceipt", one)
            if payment.person is not None and int(receipt["status"], 16):
                wanted[one] = (self.people[payment.person].pk, payment.units, number, receipt["blockHash"])
                totals[payment.person, payment.code] += payment.units
        rows = list(Deposit.objects.all())
        credited = {
            row.transaction_hash: (row.user_id, row.credited_units, row.block_number, row.block_hash)
            for row in rows
            if row.state == "credited"
        }
        assert credited == wanted
        assert len({row.transaction_hash for row in rows}) == len(rows), "something was recorded twice"
        left = {(row.state, row.credited_units) for row in rows if row.transaction_hash not in wanted}
        assert left <= {("orphaned", 0), ("reversed", 0), ("frozen", 0)}
        self._books_agree(totals)
        net: Counter[UUID | None] = Counter()
        for topic, subject in Event.objects.values_list("topic", "object_id"):
            net[subject] += {"deposit.credited": 1, "deposit.reversed": -1}.get(topic, 0)
        assert {row.pk: net[row.pk] for row in rows} == {row.pk: int(row.state == "credited") for row in rows}
        broken = {one.name: one.violations for one in invariants.run_all() if not one.holds}
        assert broken == {}

    def _books_agree(self, totals: Counter[tuple[int, str]]) -> None:
        held: dict[tuple[UUID, str], int] = defaultdict(int)
        for row in Holding.objects.select_related("address", "asset"):
            held[row.address.user_id, row.asset.code] += int(row.units)
        for code, asset in self.assets.items():
            for person, user in enumerate(self.people):
                available, owed = (
                    self.units(kind, person, code) for kind in (AccountKind.AVAILABLE, AccountKind.OWED)
                )
                assert available + owed == totals[person, code] - self.spent[person, code]
                assert not (available and owed), "money and a debt at once"
                assert held[user.pk, code] == totals[person, code]
            custody = Account.objects.filter(kind=AccountKind.CUSTODY, ref=DEPOSITS_REF, asset=asset)
            booked = int(custody.aggregate(units=Sum("balance_units"))["units"] or 0)
            assert -booked == sum(units for (_, one), units in totals.items() if one == code)
        for person, user in enumerate(self.people):
            user.refresh_from_db()
            owes = any(self.units(AccountKind.OWED, person, code) for code in self.assets)
            assert bool(user.frozen_at) == owes


@pytest.fixture
def shallows(monitor: Monitor, proxy: RpcProxy, seed: int) -> Iterator[Shallows]:
    """Three people, and accounts with coins and USDC that each send one transaction."""
    chance = random.Random(seed)
    native = monitor.chain.native
    for asset in (native, monitor.usdc.asset):
        DepositRule.objects.create(asset=asset, minimum_units=1)
    # The hot wallet sends nothing here; its coin would have to be booked.
    monitor.chain.node.balance_set(monitor.chain.wallet.address, wei=0)
    people = [User.objects.create(email=f"person{number}@example.org") for number in range(PEOPLE)]
    for person in people:
        deposit_address_open(user_id=person.pk)
    keys = [Key.from_key(chance.randbytes(32)) for _ in range(SENDERS)]
    forwarder = monitor.contract(bytecode.FORWARDER)
    for key in keys:
        monitor.send(key.address.lower(), value=ETHER, sender=monitor.accounts[2])
        data = call_data("mint(address,uint256)", key.address.lower(), 10**12)
        monitor.send(monitor.usdc.address, data)
    monitor.mine()
    monitor.fill(2)
    with RpcProxy(monitor.chain.node.url) as second:
        endpoint_add(network_id=monitor.network.pk, name="second", url=second.url, priority=20)
        yield Shallows(
            monitor,
            (proxy, second),
            chance,
            people,
            {"ETH": native, "USDC": monitor.usdc.asset},
            forwarder,
            keys,
            monitor.chain.node.block_number(),
        )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, CHAINS + 1))
def test_credits_converge_to_what_the_final_chain_holds(shallows: Shallows, seed: int) -> None:
    world, chance = shallows, shallows.chance
    try:
        for _ in range(STEPS):
            step = chance.choices(
                (world.mine, world.fork, world.fault, world.look, world.spend), (4, 2, 2, 8, 2)
            )[0]
            step()
        world.calm()
        world.agrees()
    except BaseException:
        print(f"seed {seed}: {dict(world.done)}; deposits {world.states()}")
        raise
    print(f"seed {seed}: {dict(sorted(world.done.items()))}; deposits {world.states()}")
    # Nothing is shown by a chain on which nothing happens.
    assert world.done["forks"] > 5
    assert world.done["included again"] > 3
    assert Deposit.objects.filter(state="credited").count() > 10
    assert Deposit.objects.filter(sighting__gt=1).exists()
