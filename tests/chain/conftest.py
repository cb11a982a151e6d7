"""A network on a real node, behind a proxy that can be told to misbehave."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from apps.chain import market, services
from apps.chain.kinds import SEND_WORK, SIGN_WORK, WATCH_WORK
from apps.chain.models import (
    Network,
    NetworkWatch,
    OutboundTransaction,
    RpcEndpoint,
    Token,
    TransactionAttempt,
    Wallet,
)
from apps.core import clock, work
from apps.core.models import Asset
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.deployment import Deployment
from tests.support.rpc_proxy import RpcProxy

GWEI = 10**9
ETHER = 10**18


@dataclass
class Chain:
    """What a test holds: the node, the proxy before it, and our rows; and the steps of the work, one by one."""

    node: Anvil
    proxy: RpcProxy
    network: Network
    endpoint: RpcEndpoint
    wallet: Wallet
    native: Asset
    requested: int = 0
    recipient: str = field(default_factory=lambda: "0x" + secrets.token_hex(20))

    def request(self, **options: Any) -> OutboundTransaction:
        """A plain transfer of 1,000 wei unless told otherwise."""
        self.requested += 1
        content: dict[str, Any] = {
            "to": self.recipient,
            "data": "0x",
            "value_units": 1_000,
            "gas_limit": 50_000,
            "purpose": "test",
            "reference": f"test-{self.requested}",
        }
        content["wallet_id"] = self.wallet.pk
        return services.transaction_request(network_id=self.network.pk, **{**content, **options})

    def due(self) -> None:
        """Whatever waits for its next try may have it now."""
        now = clock.now()
        NetworkWatch.objects.update(run_after=now)
        OutboundTransaction.objects.update(run_after=now)
        RpcEndpoint.objects.update(open_until=None)
        market.cache_forget()

    def sign(self) -> None:
        self.due()
        work.drain(SIGN_WORK)

    def send(self) -> None:
        self.due()
        work.drain(SEND_WORK)

    def watch(self, times: int = 1) -> None:
        for _ in range(times):
            self.due()
            work.drain(WATCH_WORK, budget_seconds=0)

    def sent(self, **options: Any) -> OutboundTransaction:
        """A transaction that was signed and broadcast."""
        row = self.request(**options)
        self.sign()
        self.send()
        return self.read(row)

    def read(self, row: OutboundTransaction) -> OutboundTransaction:
        return OutboundTransaction.objects.select_related("wallet", "attempt").get(pk=row.pk)

    def attempts(self, row: OutboundTransaction) -> list[TransactionAttempt]:
        return list(row.attempts_made.order_by("nonce", "number"))

    def topics(self, row: OutboundTransaction) -> list[str]:
        from apps.events.models import Event

        return list(
            Event.objects.filter(object_id=row.pk).order_by("sequence").values_list("topic", flat=True)
        )

    def allow_transfers(self, to: str) -> None:
        services.signer_rule_allow(network_id=self.network.pk, to=to)

    def balance(self, address: str) -> int:
        return int(self.node.rpc.call("eth_getBalance", address, "latest"), 16)


@pytest.fixture
def proxy(chain_node: Anvil) -> Iterator[RpcProxy]:
    with RpcProxy(chain_node.url) as running:
        yield running


@pytest.fixture
def chain(chain_node: Anvil, proxy: RpcProxy, transactional_db: None) -> Chain:
    """Depth 3, a funded wallet with caps of one ether a transaction and two a day; mined by hand."""
    chain_node.mining_manual()
    native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    network = services.network_create(
        chain_id=int(chain_node.rpc.call("eth_chainId"), 16),
        name="anvil",
        native_asset_id=native.pk,
        confirmations=3,
        block_time_seconds=1,
        max_fee_cap_units=200 * GWEI,
        priority_fee_cap_units=3 * GWEI,
        stuck_after_blocks=3,
    )
    endpoint = services.endpoint_add(network_id=network.pk, name="main", url=proxy.url)
    wallet = services.wallet_create(role="swap", name="swaps")
    chain_node.balance_set(wallet.address, wei=100 * ETHER)
    services.wallet_cap_set(
        wallet_id=wallet.pk, asset_id=native.pk, per_transaction_units=ETHER, daily_units=2 * ETHER
    )
    made = Chain(chain_node, proxy, network, endpoint, wallet, native)
    made.allow_transfers(made.recipient)
    made.watch()
    made.network.refresh_from_db()
    return made


@pytest.fixture
def token(chain: Chain, deployment: Deployment) -> Token:
    """USDC of the deployment, on the allow-list."""
    return services.token_register(
        network_id=chain.network.pk,
        asset_code="USDC",
        name="USD Coin",
        address=deployment.token("USDC").address,
    )
