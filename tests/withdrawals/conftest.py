from collections.abc import Callable, Iterator

import pytest

from apps.accounts import second_factor
from apps.chain.kinds import WATCH_WORK
from apps.core import partitions
from apps.sandbox.market import Market
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.deployment import Deployment
from apps.sandbox.seed import gas_fund, seed
from tests.withdrawals.support import Desk


@pytest.fixture
def desk(
    transactional_db: None,
    chain_node: Anvil,
    deployment: Deployment,
    market: Market,
    time_travel: Callable[..., int],
) -> Desk:
    """Network, hot wallet with gas money, prices, and terms for every asset of the sandbox."""
    seeded = seed(deployment, rpc_url=chain_node.url)
    gas_fund(seeded, market)
    partitions.ensure()
    desk = Desk(seeded, chain_node, market, time_travel)
    for code in seeded.assets:
        desk.rule(code)
    desk.step(WATCH_WORK)
    desk.prices()
    return desk


@pytest.fixture(autouse=True)
def factor_put_back() -> Iterator[None]:
    before = second_factor.current()
    yield
    second_factor.install(before)
