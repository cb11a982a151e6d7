"""A platform on a real chain with money at deposit addresses, and collecting it step by step.

Deposits are written by hand here, as the monitor and the credit would: these tests are about what comes after.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection, transaction

from apps.accounts.models import User
from apps.chain import derivation
from apps.chain import market as gas_market
from apps.chain import services as chain
from apps.chain.kinds import SEND_WORK, SIGN_WORK, WATCH_WORK
from apps.chain.models import Network, NetworkWatch, OutboundTransaction, RpcEndpoint, Wallet
from apps.core import clock, partitions, work
from apps.core.invariants import run_all
from apps.deposits.domain import (
    CREDIT_KIND,
    REVERSAL_KIND,
    DepositKind,
    DepositState,
    credit_reference,
    reversal_reference,
)
from apps.deposits.holdings import holdings_move
from apps.deposits.kinds import SWEEP_WORK
from apps.deposits.models import Deposit, DepositAddress, DepositRule, Holding, Scan, Sweep
from apps.deposits.setup import collecting_allow
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.models import Account
from apps.ledger.services import accounts_open, journals_post
from apps.providers.services import price_snapshots_refresh
from apps.sandbox.market import Market
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.compiler import contracts_compile
from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.seed import Seeded, gas_fund, seed
from apps.treasury.domain import DEPOSITS_REF
from apps.treasury.services import gas_book

ETHER = 10**18
USDC = 10**6
CONFIRMATIONS = 2
ODD = [Path(__file__).parent.parent / "support" / "contracts" / "OddTokens.sol"]


@dataclass
class Place:
    """What a test holds. Blocks are mined by hand."""

    seeded: Seeded
    node: Anvil
    maker: Market
    travel: Callable[..., int]
    odd_address: str = ""
    addresses: list[DepositAddress] = field(default_factory=list)

    @property
    def network(self) -> Network:
        return Network.objects.get()

    @property
    def hot(self) -> Wallet:
        return self.seeded.wallet

    @property
    def gas(self) -> Wallet:
        return Wallet.objects.get(role="gas")

    def asset_id(self, code: str) -> UUID:
        return self.seeded.assets[code].pk

    def odd(self, name: str, *arguments: Any, measured: bool = False) -> str:
        """Deploy one of the odd tokens, allow it, and return its code."""
        self.node.mining_automatic()
        address = self.maker.chain.deploy(contracts_compile(ODD)[name], *arguments)
        made = chain.token_register(network_id=self.network.pk, asset_code="ODD", name=name, address=address)
        self.node.mining_manual()
        DepositRule.objects.create(asset=made.asset, minimum_units=1, credit_measured=measured)
        collecting_allow(network_id=self.network.pk)
        self.seeded.assets["ODD"] = made.asset
        self.odd_address = made.address
        return "ODD"

    def token(self, code: str) -> str:
        if code == "ODD":
            return self.odd_address
        return self.maker.deployment.token(code).address

    def address(self) -> DepositAddress:
        """The deposit address of a new person."""
        index = len(self.addresses)
        user = User.objects.create(email=f"depositor{index}@example.org")
        made = DepositAddress.objects.create(
            user=user, index=index, address=derivation.address_at(xpub=settings.DEPOSIT_XPUB, index=index)
        )
        self.addresses.append(made)
        return made

    def send(self, to: DepositAddress, code: str, units: int) -> int:
        """Money arrives on chain, and nobody has looked yet; returns the block."""
        self.node.mining_automatic()
        if code == "ETH":
            self.maker.send_ether(to=to.address, wei=units)
        elif code == "ODD":
            self.maker.chain.write(self.odd_address, "mint(address,uint256)", to.address, units)
        else:
            self.maker.mint(symbol=code, to=to.address, units=units)
        self.node.mining_manual()
        return self.node.block_number()

    def deposit(self, to: DepositAddress, code: str, units: int) -> Deposit:
        """Money that arrived and was credited."""
        block = self.send(to, code, units)
        row = self.seen(to, code, units, block=block)
        self.credit(row)
        return row

    def seen(self, to: DepositAddress, code: str, units: int, *, block: int, state: str = "seen") -> Deposit:
        native = code == "ETH"
        return Deposit.objects.create(
            network=self.network,
            address=to,
            user_id=to.user_id,
            asset_id=self.asset_id(code),
            contract="" if native else self.token(code),
            kind=DepositKind.NATIVE if native else DepositKind.TOKEN,
            transaction_hash="0x" + secrets.token_hex(32),
            position=0,
            sender="0x" + "9" * 40,
            amount_units=units,
            measured_units=units,
            block_number=block,
            block_hash=str(self.node.block(block)["hash"]),
            state=state,
        )

    def credit(self, row: Deposit, *, sign: int = 1) -> None:
        """The credit's journal and holding, or with `sign=-1` those of its reversal."""
        assert row.asset_id is not None
        custody = AccountKey(AccountKind.CUSTODY, row.asset_id, ref=DEPOSITS_REF)
        available = AccountKey(AccountKind.AVAILABLE, row.asset_id, owner_id=row.user_id)
        units = sign * row.amount_units
        row.refresh_from_db()
        kind = CREDIT_KIND if sign > 0 else REVERSAL_KIND
        reference = (credit_reference if sign > 0 else reversal_reference)(row.pk, row.sighting)
        with transaction.atomic():
            holdings_move({(row.address_id, row.asset_id): units})
            accounts = accounts_open(keys=[custody, available])
            journals_post(
                drafts=[
                    JournalDraft(
                        kind,
                        reference,
                        (Posting(accounts[custody], -units), Posting(accounts[available], units)),
                    )
                ]
            )
            credited = row.amount_units if sign > 0 else 0
            state = DepositState.CREDITED if sign > 0 else DepositState.REVERSED
            credited_at = clock.now() if sign > 0 else None
            Deposit.objects.filter(pk=row.pk).update(
                state=state, credited_units=credited, credited_at=credited_at
            )

    def due(self) -> None:
        """Whatever waits for its next try may have it now, whoever held it."""
        now = clock.now()
        NetworkWatch.objects.update(run_after=now)
        OutboundTransaction.objects.update(run_after=now)
        Sweep.objects.update(run_after=now)
        RpcEndpoint.objects.update(open_until=None)
        gas_market.cache_forget()
        with connection.cursor() as cursor:
            for table in ("chain_outboundtransaction", "chain_networkwatch", "deposits_sweep"):
                cursor.execute(
                    f"UPDATE {table} SET leased_until = clock_timestamp() - interval '1 second'"
                    " WHERE leased_until IS NOT NULL"
                )

    def watch(self) -> None:
        for _ in range(3):
            self.due()
            work.drain(WATCH_WORK, budget_seconds=0)
        self.scanned()

    def scanned(self) -> None:
        """The monitor has read what the watcher holds."""
        network = self.network
        Scan.objects.update_or_create(
            network=network, defaults={"next_block": (network.watched_block or 0) + 1}
        )

    def sweep(self) -> None:
        """Each open sweep makes one step."""
        self.due()
        work.drain(SWEEP_WORK, budget_seconds=0)

    def advance(self, *, blocks: int = 1, gas: bool = True) -> None:
        """One round of everything: sweeps, signing, sending, a block, watching, gas."""
        self.sweep()
        for kind in (SIGN_WORK, SEND_WORK):
            self.due()
            work.drain(kind, budget_seconds=0)
        if blocks:
            self.node.mine(blocks=blocks)
        self.watch()
        if gas:
            gas_book()

    def finish(self, *, rounds: int = 25, check: bool = False) -> None:
        """Until no sweep is open and all gas is booked."""
        for _ in range(rounds):
            open_ones = Sweep.objects.filter(state__in=["planned", "funding", "sweeping"])
            unbooked = OutboundTransaction.objects.filter(gas_used__gt=0, gas_booked_at__isnull=True)
            if not open_ones.exists() and not unbooked.exists():
                return
            self.advance()
            if check:
                self.holds()
        raise AssertionError(f"not done: {list(Sweep.objects.values('state', 'reason', 'last_error'))}")

    def holds(self) -> None:
        """Books equal chain, and every other invariant."""
        broken = [f"{v.name}: {line}" for v in run_all() for line in v.violations]
        assert broken == []

    def holding(self, at: DepositAddress, code: str) -> int:
        row = Holding.objects.filter(address=at, asset_id=self.asset_id(code)).first()
        return 0 if row is None else row.units

    def custody(self, ref: str, code: str) -> int:
        """Units that the books say lie there."""
        row = Account.objects.filter(kind=AccountKind.CUSTODY, asset_id=self.asset_id(code), ref=ref).first()
        return 0 if row is None else -row.balance_units

    def on_chain(self, address: str, code: str) -> int:
        if code == "ETH":
            return int(self.node.rpc.call("eth_getBalance", address, "latest"), 16)
        if code == "ODD":
            (units,) = self.maker.chain.read(
                self.odd_address, "balanceOf(address)", address, returns=["uint256"]
            )
            return int(units)
        return self.maker.balance(symbol=code, of=address)


@pytest.fixture
def place(
    transactional_db: None,
    chain_node: Anvil,
    deployment: Deployment,
    market: Market,
    time_travel: Callable[..., int],
) -> Place:
    """Depth 2, gas money in both wallets, prices known; nothing at any deposit address."""
    seeded = seed(deployment, rpc_url=chain_node.url, confirmations=CONFIRMATIONS)
    gas_fund(seeded, market)
    partitions.ensure()
    price_snapshots_refresh()
    chain_node.mining_manual()
    made = Place(seeded, chain_node, market, time_travel)
    made.watch()
    return made
