"""Fixtures: the house on the real chain, and a trader with money."""

import pytest

from apps.sandbox.market import Market as Maker
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.deployment import Deployment
from tests.providers.support import House, Trader, house_open


@pytest.fixture
def house(db: None, chain_node: Anvil, deployment: Deployment, market: Maker) -> House:
    return house_open(chain_node, deployment)


@pytest.fixture
def trader(house: House, market: Maker) -> Trader:
    """Owns a million of USDC, 100 WETH, and has approved both routers."""
    who = Trader(house, house.deployment.accounts[5])
    market.mint(symbol="USDC", to=who.address, units=house.units("USDC", 1_000_000))
    market.mint(symbol="WETH", to=who.address, units=house.units("WETH", 100))
    for router in (house.v2.router_address, house.v3.router_address):
        who.approve("USDC", router, 2**255)
        who.approve("WETH", router, 2**255)
    return who
