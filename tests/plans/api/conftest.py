"""A market without a chain on a Friday evening: the plans' API never asks the chain."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from apps.accounts.models import User
from apps.chain.services import network_create
from apps.core import clock
from apps.core.models import Asset
from apps.events.models import Event
from apps.fees.services import fee_schedule_set
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.plans import services
from apps.plans.models import Plan, Slot
from apps.plans.terms import ScheduleInput
from apps.providers.models import Market
from tests.core.api.support import ApiClient, user_with_key

USDC = 10**6
# Two days before Europe's clocks change.
FRIDAY = datetime(2030, 3, 29, 20, 15, 42, tzinfo=UTC)


@dataclass
class Desk:
    """A person with a key, a market to buy on, and what tests ask again and again."""

    market: Market
    user: User
    client: ApiClient
    travel: Callable[..., int]
    sent: int = 0

    def body(self, **changes: Any) -> dict[str, Any]:
        """A daily plan from tomorrow; `schedule` is merged, a value of `...` is left out."""
        schedule = {
            "kind": "daily",
            "at": "09:00",
            "time_zone": "Europe/Berlin",
            "start_at": "2030-03-30T00:00:00+01:00",
            **changes.pop("schedule", {}),
        }
        whole = {"name": "Ether", "market": "USDC/WETH", "amount": "100", "schedule": schedule, **changes}
        whole["schedule"] = {name: value for name, value in schedule.items() if value is not ...}
        return {name: value for name, value in whole.items() if value is not ...}

    def post(self, **changes: Any) -> Any:
        self.sent += 1
        return self.client.post("/api/v1/plans", self.body(**changes), idempotency_key=f"key-{self.sent}")

    def plan(self, **values: Any) -> Plan:
        """A plan of this person, through the service: daily at nine from tomorrow unless told."""
        schedule = {
            "kind": "daily",
            "at": "09:00",
            "time_zone": "Europe/Berlin",
            "start_at": clock.now(),
            **values.pop("schedule", {}),
        }
        owner_id: UUID = values.pop("owner_id", self.user.pk)
        return services.plan_create(
            owner_id=owner_id,
            market=self.market,
            schedule=ScheduleInput(**schedule),
            **{"name": "Ether", "amount_units": 100 * USDC, **values},
        )

    def fund(self, *, usdc: int) -> None:
        """Available units out of custody, as a deposit books them."""
        asset_id = self.market.sold_asset_id
        available = AccountKey(AccountKind.AVAILABLE, asset_id, self.user.pk)
        custody = AccountKey(AccountKind.CUSTODY, asset_id, ref="0x" + "5" * 40)
        accounts = accounts_open(keys={available, custody})
        postings = (Posting(accounts[custody], -usdc * USDC), Posting(accounts[available], usdc * USDC))
        journals_post(drafts=[JournalDraft("deposit", f"test:{usdc}", postings)])


@pytest.fixture
def desk(db: None, time_travel: Callable[..., int]) -> Desk:
    """USDC/WETH with a smallest trade of 1 USDC, a guard of 2 %, and a fee of 0.25 % but at least a cent."""
    time_travel(to=FRIDAY)
    ether = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    usdc = Asset.objects.create(code="USDC", name="USD Coin", decimals=6)
    weth = Asset.objects.create(code="WETH", name="Wrapped Ether", decimals=18)
    network = network_create(chain_id=1, name="mainnet", native_asset_id=ether.pk)
    market = Market.objects.create(
        network=network, sold_asset=usdc, bought_asset=weth, min_trade_units=USDC, guard_bps=200
    )
    fee_schedule_set(tier="standard", asset_id=usdc.pk, bps=25, min_units=10_000, max_units=5 * USDC)
    user, client = user_with_key("ann@example.org")
    return Desk(market, user, client, time_travel)


def everything() -> tuple[list[dict[str, Any]], ...]:
    """All that a refused request must leave as it was."""
    return tuple(
        [dict(row) for row in model.objects.order_by("pk").values()] for model in (Plan, Slot, Event)
    )


def topics() -> list[str]:
    return list(Event.objects.order_by("subject_id", "sequence").values_list("topic", flat=True))


def hours(count: float) -> timedelta:
    return timedelta(hours=count)
