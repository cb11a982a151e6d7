"""A platform with a wallet, a market and a person on the real chain, and the chain's work step by step."""

from dataclasses import dataclass
from uuid import UUID

import pytest
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import User
from apps.accounts.services import user_create
from apps.chain import market as gas_market
from apps.chain import services as chain
from apps.chain.kinds import SEND_WORK, SIGN_WORK, WATCH_WORK
from apps.chain.models import NetworkWatch, OutboundTransaction, Wallet
from apps.core import clock, work
from apps.ledger.domain import AccountKey, AccountKind
from apps.ledger.models import Account
from apps.ledger.services import accounts_open
from apps.providers.models import Market
from apps.sandbox.market import Market as Maker
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.deployment import Deployment
from tests.providers.support import House, house_open

ETHER = 10**18
CONFIRMATIONS = 3


def statements(context: CaptureQueriesContext) -> list[str]:
    """What was asked of the database, without the beginnings and ends of transactions."""
    control = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "SET CONSTRAINTS")
    return [query["sql"] for query in context.captured_queries if not query["sql"].startswith(control)]


@dataclass(frozen=True)
class Desk:
    """What a test holds. Amounts are base units."""

    house: House
    maker: Maker
    wallet: Wallet
    market: Market
    person: User

    def asset_id(self, code: str) -> UUID:
        return self.house.assets[code].pk

    def custody(self, code: str) -> UUID:
        return self._account(AccountKind.CUSTODY, code, ref=self.wallet.address)

    def available(self, code: str) -> UUID:
        return self._account(AccountKind.AVAILABLE, code, owner_id=self.person.pk)

    def balance(self, account_id: UUID) -> int:
        return int(Account.objects.get(pk=account_id).balance_units)

    def advance(self, *, blocks: int = 0) -> None:
        """Sign and send what is queued, mine `blocks`, and let the watcher look until nothing is new."""
        for kind in (SIGN_WORK, SEND_WORK):
            self._due()
            work.drain(kind, budget_seconds=0)
        if blocks:
            self.house.node.mine(blocks=blocks)
        for _ in range(3):
            self._due()
            work.drain(WATCH_WORK, budget_seconds=0)

    def transfer(self, *, reference: str, to: str, wei: int = 1_000) -> OutboundTransaction:
        """Ask for a plain transfer of native coin."""
        return chain.transaction_request(
            network_id=self.house.network.pk,
            wallet_id=self.wallet.pk,
            to=to,
            data="0x",
            value_units=wei,
            gas_limit=50_000,
            purpose="test",
            reference=reference,
        )

    def _due(self) -> None:
        now = clock.now()
        NetworkWatch.objects.update(run_after=now)
        OutboundTransaction.objects.update(run_after=now)
        gas_market.cache_forget()

    def _account(self, kind: AccountKind, code: str, *, owner_id: UUID | None = None, ref: str = "") -> UUID:
        key = AccountKey(kind, self.asset_id(code), owner_id=owner_id, ref=ref)
        return accounts_open(keys=[key])[key]


@pytest.fixture
def desk(transactional_db: None, chain_node: Anvil, deployment: Deployment, market: Maker) -> Desk:
    """Mined by hand. The wallet is empty on chain and in the books; the signer allows V2 swaps and transfers."""
    house = house_open(chain_node, deployment)
    chain_node.mining_manual()
    network_id, router = house.network.pk, house.v2.router_address
    wallet = chain.wallet_create(role="swap")
    pair = house.market("USDC", "WETH")
    house.v2_route(pair)
    for code in ("USDC", "ETH"):
        chain.wallet_cap_set(
            wallet_id=wallet.pk,
            asset_id=house.assets[code].pk,
            per_transaction_units=10**24,
            daily_units=10**24,
        )
    chain.signer_rule_allow(
        network_id=network_id,
        to=deployment.token("USDC").address,
        signature="approve(address,uint256)",
        amount_path="1",
        recipient_path="0",
        recipient=router,
        counts_daily=False,
    )
    chain.signer_rule_allow(
        network_id=network_id,
        to=router,
        signature="swapExactTokensForTokens(uint256,uint256,address[],address,uint256)",
        amount_path="0",
        token_path="2.0",
        recipient_path="3",
    )
    for account in deployment.accounts:
        chain.signer_rule_allow(network_id=network_id, to=account)
    return Desk(house, market, wallet, pair, user_create(email="ann@example.org"))
