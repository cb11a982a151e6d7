from collections.abc import Iterator

import pytest

from apps.chain.models import Token
from apps.chain.services import endpoint_add, network_create
from apps.core.models import Asset
from apps.deposits.models import DepositRule
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.contracts import Contracts
from apps.sandbox.runtime.deployment import Deployment
from tests.deposits.shore import Shore
from tests.deposits.support import CONTRACT, Bank
from tests.support.rpc_proxy import RpcProxy


def bank_make() -> Bank:
    native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    usdc = Asset.objects.create(code="USDC", name="USD Coin", decimals=6)
    network = network_create(chain_id=1, name="mainnet", native_asset_id=native.pk)
    token = Token.objects.create(network=network, asset=usdc, address=CONTRACT, decimals=6)
    rule = DepositRule.objects.create(asset=usdc, minimum_units=1)
    made = Bank(network, usdc, native, token, rule)
    made.blocks(0, 9)
    return made


@pytest.fixture
def bank(db: None) -> Bank:
    return bank_make()


@pytest.fixture
def shared(transactional_db: None) -> Bank:
    """The same, committed: for tests with several connections."""
    return bank_make()


@pytest.fixture
def shore(chain_node: Anvil, deployment: Deployment, transactional_db: None) -> Iterator[Shore]:
    """A network behind a proxy that can misbehave, watched from the node's head on."""
    with RpcProxy(chain_node.url) as proxy:
        native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
        network = network_create(
            chain_id=deployment.chain_id,
            name="anvil",
            native_asset_id=native.pk,
            confirmations=3,
            block_time_seconds=1,
        )
        endpoint_add(network_id=network.pk, name="main", url=proxy.url)
        DepositRule.objects.create(asset=native, minimum_units=1)
        contracts = Contracts(chain_node.rpc, sender=deployment.deployer)
        made = Shore(chain_node, proxy, network, native, deployment, contracts, chain_node.block_number())
        made.watch()
        yield made
