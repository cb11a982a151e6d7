from collections.abc import Callable

import pytest

from apps.core import partitions
from apps.sandbox.market import Market
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.seed import gas_fund, seed
from tests.plans.support import Platform


@pytest.fixture
def platform(
    transactional_db: None,
    chain_node: Anvil,
    deployment: Deployment,
    market: Market,
    time_travel: Callable[..., int],
) -> Platform:
    """Network, wallet, venues, markets, feeds and fees on the test's own chain, with gas money."""
    seeded = seed(deployment, rpc_url=chain_node.url)
    gas_fund(seeded, market)
    partitions.ensure()
    return Platform(seeded, chain_node, market, time_travel)
