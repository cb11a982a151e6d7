"""A house with a chain: network, tokens, venues, feeds and markets on the real contracts of `deployment`."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any
from uuid import UUID

from apps.chain.models import Network
from apps.chain.services import endpoint_add, network_create, token_register
from apps.core import clock
from apps.core.models import Asset
from apps.providers.domain import SwapCall
from apps.providers.models import Market, PriceFeed, Venue
from apps.providers.services import route_add
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.contracts import Contracts
from apps.sandbox.runtime.deployment import Deployment

FEED_MAX_AGE_SECONDS = 3_600


@dataclass(frozen=True)
class House:
    """What operators set up, for one chain."""

    network: Network
    assets: dict[str, Asset]
    v2: Venue
    v3: Venue
    node: Anvil
    deployment: Deployment

    def market(self, sold: str, bought: str, *, guard_bps: int = 300, **fields: Any) -> Market:
        """A market without routes."""
        return Market.objects.create(
            network=self.network,
            sold_asset=self.assets[sold],
            bought_asset=self.assets[bought],
            guard_bps=guard_bps,
            **fields,
        )

    def v2_route(self, market: Market, *, via: Sequence[str] = ()) -> UUID:
        tokens = [self.deployment.token(code).address for code in via]
        return route_add(market_id=market.pk, venue_id=self.v2.pk, via=tokens).pk

    def v3_route(self, market: Market, *fees: int, via: Sequence[str] = ()) -> UUID:
        tokens = [self.deployment.token(code).address for code in via]
        return route_add(market_id=market.pk, venue_id=self.v3.pk, pool_fees=fees, via=tokens).pk

    def units(self, code: str, whole: int) -> int:
        return int(whole * 10 ** self.assets[code].decimals)


def house_open(node: Anvil, deployment: Deployment) -> House:
    """Set everything up as an operator would, decimals read on chain."""
    native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    network = network_create(
        chain_id=deployment.chain_id, name="anvil", native_asset_id=native.pk, block_time_seconds=1
    )
    endpoint_add(network_id=network.pk, name="anvil", url=node.url)
    assets = {"ETH": native}
    for symbol, token in deployment.tokens.items():
        assets[symbol] = token_register(
            network_id=network.pk, asset_code=symbol, name=token.name, address=token.address
        ).asset
    for code, symbol in [*((symbol, symbol) for symbol in deployment.tokens), ("ETH", "WETH")]:
        PriceFeed.objects.create(
            asset=assets[code],
            network=network,
            aggregator_address=deployment.feeds[symbol],
            max_age_seconds=FEED_MAX_AGE_SECONDS,
        )
    contracts = deployment.contracts
    v2 = Venue.objects.create(
        network=network,
        kind=Venue.Kind.UNISWAP_V2,
        name="Uniswap V2",
        router_address=contracts["v2_router"],
        factory_address=contracts["v2_factory"],
    )
    v3 = Venue.objects.create(
        network=network,
        kind=Venue.Kind.UNISWAP_V3,
        name="Uniswap V3",
        router_address=contracts["v3_router"],
        factory_address=contracts["v3_factory"],
        quoter_address=contracts["v3_quoter"],
    )
    return House(network, assets, v2, v3, node, deployment)


@dataclass(frozen=True)
class Trader:
    """An account whose key the node itself holds: sends what a wallet of ours would send."""

    house: House
    address: str

    def approve(self, code: str, router: str, units: int) -> None:
        token = self.house.deployment.token(code).address
        self._contracts.write(token, "approve(address,uint256)", router, units)

    def balance(self, code: str) -> int:
        token = self.house.deployment.token(code).address
        (balance,) = self._contracts.read(token, "balanceOf(address)", self.address, returns=["uint256"])
        return int(balance)

    def send(self, call: SwapCall) -> dict[str, Any]:
        """The receipt, also of a revert."""
        rpc = self.house.node.rpc
        sent = rpc.call(
            "eth_sendTransaction",
            {"from": self.address, "to": call.to, "data": call.data, "gas": hex(call.gas_limit)},
        )
        pause = Event()
        for _ in range(1_000):
            receipt: dict[str, Any] | None = rpc.call("eth_getTransactionReceipt", sent)
            if receipt is not None:
                return receipt
            pause.wait(0.005)
        raise AssertionError(f"{sent} was not mined")

    @property
    def _contracts(self) -> Contracts:
        return Contracts(self.house.node.rpc, sender=self.address)


def deadline() -> int:
    """Ten minutes from now, in seconds since the epoch."""
    return int(clock.now().timestamp()) + 600
