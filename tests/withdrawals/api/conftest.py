"""Terms and a price without a chain: the withdrawals' API never asks one."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.accounts.models import User
from apps.chain import abi
from apps.chain.models import Network, Token
from apps.chain.services import network_create
from apps.core import clock
from apps.core.models import Asset, IdempotencyKey
from apps.events.models import Event
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.models import Account
from apps.ledger.services import accounts_open, journals_post
from apps.providers.models import Market, PriceSnapshot
from apps.withdrawals.models import Withdrawal, WithdrawalApproval, WithdrawalDestination, WithdrawalRule
from tests.core.api.support import ApiClient, user_with_key

USDC = 10**6
GWEI = 10**9
FRIDAY = datetime(2030, 3, 29, 20, 15, 42, tzinfo=UTC)
# The example of EIP-55.
OUTSIDE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
ROUTER = "0x" + "a" * 40
TOKEN = "0x" + "b" * 40
OURS = "0x" + "c" * 40
DEPOSIT = "0x" + "d" * 40


@dataclass
class Office:
    """A person with 1,000 USDC, a destination that has rested, and what tests ask again and again."""

    network: Network
    usdc: Asset
    ether: Asset
    rule: WithdrawalRule
    user: User
    client: ApiClient
    travel: Callable[..., int]
    sent: int = 0

    def body(self, **changes: Any) -> dict[str, Any]:
        """100 USDC to the destination; a value of `...` is left out."""
        whole = {"asset": "USDC", "amount": "100", "destination": OUTSIDE, **changes}
        return {name: value for name, value in whole.items() if value is not ...}

    def post(self, **changes: Any) -> Any:
        self.sent += 1
        return self.client.post(
            "/api/v1/withdrawals", self.body(**changes), idempotency_key=f"key-{self.sent}"
        )

    def row(self, **changes: Any) -> Withdrawal:
        answer = self.post(**changes)
        assert answer.status_code == 201, answer.content
        return Withdrawal.objects.get(pk=answer.json()["id"])

    def balance(self, kind: AccountKind = AccountKind.AVAILABLE) -> int:
        row = Account.objects.filter(owner_id=self.user.pk, asset=self.usdc, kind=kind).first()
        return 0 if row is None else int(row.balance_units)

    def fund(self, user: User, asset: Asset, units: int, name: str) -> None:
        available = AccountKey(AccountKind.AVAILABLE, asset.pk, user.pk)
        custody = AccountKey(AccountKind.CUSTODY, asset.pk, ref=OURS)
        accounts = accounts_open(keys={available, custody})
        postings = (Posting(accounts[custody], -units), Posting(accounts[available], units))
        journals_post(drafts=[JournalDraft("deposit", f"test:{name}", postings)])

    def destination(self, user: User, address: str = OUTSIDE) -> WithdrawalDestination:
        past = clock.now() - timedelta(days=2)
        return WithdrawalDestination.objects.create(
            user=user, address=address.lower(), label="mine", created_at=past, usable_at=past
        )


@pytest.fixture
def office(transactional_db: None, time_travel: Callable[..., int]) -> Office:
    """A fee of 0.5 USDC and gas at 2,000 USDC an ether and 10 gwei; limits of 500 a day and 900 an hour."""
    time_travel(to=FRIDAY)
    ether = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    usdc = Asset.objects.create(code="USDC", name="USD Coin", decimals=6)
    weth = Asset.objects.create(code="WETH", name="Wrapped Ether", decimals=18)
    Asset.objects.create(code="DOGE", name="On no network", decimals=8)
    network = network_create(chain_id=1, name="mainnet", native_asset_id=ether.pk)
    Token.objects.create(network=network, asset=usdc, address=TOKEN, decimals=6)
    market = Market.objects.create(network=network, sold_asset=usdc, bought_asset=weth)
    PriceSnapshot.objects.create(
        market=market,
        numerator=10**18,
        denominator=2_000 * USDC,
        # USDC units per wei.
        gas_numerator=2_000 * USDC,
        gas_denominator=10**18,
        gas_price_units=10 * GWEI,
        swap_gas_units=1,
        block_number=1,
        observed_at=clock.now(),
        refreshed_at=clock.now(),
    )
    rule = WithdrawalRule.objects.create(
        asset=usdc,
        minimum_units=USDC,
        flat_fee_units=USDC // 2,
        gas_units=50_000,
        person_daily_units=500 * USDC,
        platform_hourly_units=900 * USDC,
        approval_above_units=200 * USDC,
    )
    user, client = user_with_key("ann@example.org")
    made = Office(network, usdc, ether, rule, user, client, time_travel)
    made.fund(user, usdc, 1_000 * USDC, "start")
    made.destination(user)
    return made


def everything() -> tuple[list[dict[str, Any]], ...]:
    """All that a refused request must leave as it was."""
    models = (
        Withdrawal,
        WithdrawalDestination,
        WithdrawalApproval,
        Event,
        IdempotencyKey,
        Account,
    )
    return tuple([dict(row) for row in model._default_manager.order_by("pk").values()] for model in models)


__all__ = ["OUTSIDE", "USDC", "Office", "abi", "everything"]
