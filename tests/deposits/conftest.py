import pytest

from apps.chain.models import Token
from apps.chain.services import network_create
from apps.core.models import Asset
from apps.deposits.models import DepositRule
from tests.deposits.support import CONTRACT, Bank


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
