"""A monitored network on a real node, and the monitor's work step by step."""

import secrets
from dataclasses import dataclass, field
from typing import Any

import pytest

from apps.accounts.services import user_create
from apps.chain import tracing
from apps.chain.models import Network, NetworkWatch, RpcEndpoint, Token
from apps.core import clock, work
from apps.deposits.kinds import RESCAN, SCAN
from apps.deposits.models import Deposit, DepositAddress, Rescan, Scan
from apps.deposits.scanning import scans_ensure
from apps.sandbox.runtime.contracts import Contracts, call_data
from apps.sandbox.runtime.deployment import Deployment
from tests.chain.conftest import Chain, chain, proxy, token

__all__ = ["chain", "proxy", "token"]


@dataclass
class Monitor:
    """What a test holds: a chain with depth 3, mined by hand, and the steps of `chain.watch` and `deposits.scan`."""

    chain: Chain
    usdc: Token
    accounts: tuple[str, ...]
    deployer: str
    people: int = 0
    contracts: dict[str, str] = field(default_factory=dict)

    def address(self) -> str:
        """A new person's deposit address."""
        self.people += 1
        person = user_create(email=f"depositor-{self.people}@example.org")
        made = DepositAddress.objects.create(
            user=person, index=self.people, address="0x" + secrets.token_hex(20)
        )
        return str(made.address)

    # Transactions, mined together by `mine`

    def send(self, to: str, data: str = "0x", value: int = 0, *, sender: str = "", **more: Any) -> str:
        request = {"from": sender or self.deployer, "to": to, "data": data, "value": hex(value)}
        return str(self.chain.node.rpc.call("eth_sendTransaction", {"gas": hex(500_000), **request, **more}))

    def pay(self, address: str, units: int = 1_000_000) -> str:
        """USDC, from its owner."""
        return self.send(self.usdc.address, call_data("mint(address,uint256)", address, units))

    def contract(self, artifact: Any) -> str:
        """Where a contract of `tests.support.bytecode` is; deployed (and mined) when first asked for."""
        if artifact.name not in self.contracts:
            maker = Contracts(self.chain.node.rpc, sender=self.deployer)
            self.contracts[artifact.name] = maker.deploy(artifact)
        return self.contracts[artifact.name]

    def mine(self, blocks: int = 1) -> int:
        return self.chain.node.mine(blocks=blocks)

    def fill(self, blocks: int) -> int:
        """Blocks with a transaction in each: an empty block that is mined again has the same hash."""
        for _ in range(blocks):
            self.send(self.accounts[1], value=1)
            self.mine()
        return self.chain.node.block_number()

    def paid(self, blocks_after: int = 0) -> int:
        """A block with a deposit of USDC to a new address."""
        self.pay(self.address())
        block = self.mine()
        if blocks_after:
            self.fill(blocks_after)
        return block

    # Work

    def due(self) -> None:
        now = clock.now()
        for model in (Scan, Rescan, NetworkWatch):
            model.objects.update(run_after=now)
        RpcEndpoint.objects.update(open_until=None)

    def watch(self) -> None:
        self.chain.watch(times=3)

    def step(self) -> None:
        """One claim of the monitor."""
        self.due()
        work.drain(SCAN, budget_seconds=0)

    def scan(self, times: int = 3) -> None:
        """Let the watcher look, and then the monitor until it has read what is held (or cannot)."""
        self.watch()
        for _ in range(times):
            self.step()

    def rescan(self, times: int = 3) -> None:
        for _ in range(times):
            self.due()
            work.drain(RESCAN, budget_seconds=0)

    @property
    def row(self) -> Scan:
        return Scan.objects.select_related("network").get(network=self.chain.network)

    @property
    def network(self) -> Network:
        return Network.objects.get(pk=self.chain.network.pk)

    def read_all(self) -> bool:
        """Whether everything was read that is held, and a second time what is final."""
        row = self.row
        return row.next_block == (row.network.watched_block or 0) + 1 and row.next_final_block == min(
            row.next_block, (row.network.final_block or 0) + 1
        )

    def deposits(self, **options: Any) -> list[Deposit]:
        return list(
            Deposit.objects.filter(**options).order_by("block_number", "transaction_hash", "position")
        )


@pytest.fixture
def monitor(chain: Chain, token: Token, deployment: Deployment) -> Monitor:
    tracing._tracing.clear()
    made = Monitor(chain, token, deployment.accounts, deployment.deployer)
    scans_ensure()
    made.scan()
    assert made.read_all()
    return made
