"""A platform with deposits on the real node. Blocks are read by a few lines here: the scanner has tests of its own."""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from apps.accounts.models import User
from apps.chain import abi
from apps.chain import services as chain
from apps.chain.kinds import WATCH_WORK
from apps.chain.models import Network, NetworkWatch, RpcEndpoint, Token
from apps.core import clock, work
from apps.core.models import Asset
from apps.deposits.domain import DepositKind, Sighting
from apps.deposits.kinds import CHECK, CREDIT
from apps.deposits.models import Deposit, DepositRule
from apps.deposits.services import deposit_address_open, deposits_orphan, deposits_ready, sightings_record
from apps.ledger.domain import AccountKind
from apps.ledger.models import Account
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.contracts import Contracts
from apps.sandbox.runtime.deployment import Deployment
from apps.treasury.domain import DEPOSITS_REF
from tests.support.rpc_proxy import RpcProxy

_TRANSFER = abi.topic(abi.TRANSFER_SIGNATURE)


@dataclass
class Shore:
    """Depth 3, a block per transaction. `write` acts as the node's first account, `contracts.sender`."""

    node: Anvil
    proxy: RpcProxy
    network: Network
    native: Asset
    deployment: Deployment
    contracts: Contracts
    scanned: int
    count: itertools.count = field(default_factory=itertools.count)  # type: ignore[type-arg]

    def person(self) -> User:
        user = User.objects.create(email=f"person{next(self.count)}@example.org")
        deposit_address_open(user_id=user.pk)
        return user

    def address(self, person: User) -> str:
        return str(deposit_address_open(user_id=person.pk).address)

    def allow(self, code: str, address: str, **rule: Any) -> Token:
        """Put a token on the allow-list and accept deposits of it, from the smallest amount on."""
        token = chain.token_register(network_id=self.network.pk, asset_code=code, name=code, address=address)
        DepositRule.objects.create(asset=token.asset, **{"minimum_units": 1, **rule})
        return token

    def due(self) -> None:
        now = clock.now()
        NetworkWatch.objects.update(run_after=now)
        Deposit.objects.update(run_after=now)
        RpcEndpoint.objects.update(open_until=None)

    def watch(self, times: int = 1) -> None:
        for _ in range(times):
            self.due()
            work.drain(WATCH_WORK, budget_seconds=0)

    def scan(self) -> int:
        """Hand over what lies in the blocks since the last scan, as the scanner does."""
        head = self.node.block_number()
        found: list[Sighting] = []
        addresses = {row.address for row in _addresses()}
        for number in range(self.scanned + 1, head + 1):
            found += self._block(number, addresses)
        self.scanned = head
        deposits_orphan(self.network.pk)
        return sightings_record(self.network.pk, found)

    def look(self) -> None:
        """Watch, scan and check once."""
        self.watch(2)
        self.scan()
        self.due()
        work.drain(CHECK, budget_seconds=0)

    def land(self) -> None:
        """Until everything that can be credited is."""
        self.look()
        self.node.mine(blocks=3)
        self.watch(2)
        self.scan()
        deposits_ready()
        work.drain(CREDIT, budget_seconds=0)

    def balance(self, person: User, asset: Asset) -> int:
        row = Account.objects.filter(kind=AccountKind.AVAILABLE, owner_id=person.pk, asset=asset).first()
        return 0 if row is None else int(row.balance_units)

    def custody(self, asset: Asset) -> int:
        row = Account.objects.filter(kind=AccountKind.CUSTODY, ref=DEPOSITS_REF, asset=asset).first()
        return 0 if row is None else -int(row.balance_units)

    def on_chain(self, person: User, contract: str = "") -> int:
        address = self.address(person)
        if not contract:
            return int(self.node.rpc.call("eth_getBalance", address, "latest"), 16)
        return int(self.contracts.read(contract, "balanceOf(address)", address, returns=["uint256"])[0])

    def _block(self, number: int, addresses: set[str]) -> list[Sighting]:
        block = self.node.rpc.call("eth_getBlockByNumber", hex(number), True)
        at = datetime.fromtimestamp(int(block["timestamp"], 16), tz=UTC)
        where = {"block_number": number, "block_hash": block["hash"], "block_time": at}
        found = []
        for entry in block["transactions"]:
            if entry.get("to") in addresses and int(entry["value"], 16):
                found.append(
                    Sighting(
                        entry["to"], DepositKind.NATIVE, "", entry["hash"], 0, entry["from"],
                        int(entry["value"], 16), **where,
                    )
                )  # fmt: skip
            receipt = self.node.rpc.call("eth_getTransactionReceipt", entry["hash"])
            for position, log in enumerate(receipt["logs"]):
                topics = log["topics"]
                if len(topics) == 3 and topics[0] == _TRANSFER and abi.topic_address(topics[2]) in addresses:
                    found.append(
                        Sighting(
                            abi.topic_address(topics[2]), DepositKind.TOKEN, log["address"].lower(), entry["hash"],
                            position, abi.topic_address(topics[1]), int(log["data"], 16), **where,
                        )
                    )  # fmt: skip
        return found


def _addresses() -> Any:
    from apps.deposits.models import DepositAddress

    return DepositAddress.objects.all()
