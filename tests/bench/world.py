"""The people and plans of the main job's benchmark: each person has funds for, and one plan on, one of the markets."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection

from apps.accounts.models import User
from apps.chain import selectors as chain_selectors
from apps.core import bulk, clock
from apps.core.ids import uuid7_many
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.providers.models import Market
from tests.support.stack import Stack

# What a plan spends at each run: about two dollars, so that thousands together stay far from any price guard.
AMOUNT_UNITS = {"USDC": 2_000_000, "WETH": 2 * 10**15}
RUNS_FUNDED = 12
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Sao_Paulo", "UTC")


@dataclass(frozen=True)
class World:
    """`owners[n]` buys on `markets[n % 4]`."""

    owners: list[UUID]
    markets: list[Market]

    def market_of(self, number: int) -> Market:
        return self.markets[number % len(self.markets)]


def world_make(stack: Stack, *, people: int, name: str, wallet: str = "") -> World:
    """`people` persons, paid in on chain and in the ledger; their tokens lie in `wallet`, else the platform's."""
    wallet = wallet or chain_selectors.wallet_get(role="swap").address
    markets = list(Market.objects.select_related("sold_asset", "bought_asset").order_by("created_at", "id"))
    users = [User(email=f"{name}-{number}@example.org") for number in range(people)]
    User.objects.bulk_create(users, batch_size=2_000)
    world = World([user.pk for user in users], markets)
    by_asset: dict[str, list[AccountKey]] = {}
    assets = {market.sold_asset.code: market.sold_asset_id for market in markets}
    for number, owner_id in enumerate(world.owners):
        code = world.market_of(number).sold_asset.code
        by_asset.setdefault(code, []).append(AccountKey(AccountKind.AVAILABLE, assets[code], owner_id))
    for code, keys in by_asset.items():
        units = AMOUNT_UNITS[code] * RUNS_FUNDED
        stack.sandbox.market.mint(symbol=code, to=wallet, units=units * len(keys))
        custody = AccountKey(AccountKind.CUSTODY, assets[code], ref=wallet)
        accounts = accounts_open(keys=[custody, *keys])
        journals_post(
            drafts=[
                JournalDraft(
                    "credit_by_hand",
                    f"bench:{key.owner_id}",
                    (Posting(accounts[custody], -units), Posting(accounts[key], units)),
                    {"note": "bench", "actor": "bench"},
                )
                for key in keys
            ]
        )
    return world


def plans_make(world: World, *, due_at: datetime) -> list[UUID]:
    """One plan per person, due at `due_at`; returns their ids, in the order of the owners.

    They began on any day of the last year, at the time of day of their zone.
    """
    count, now = len(world.owners), clock.now()
    local = {
        zone: due_at.astimezone(ZoneInfo(zone)).time().replace(second=0, microsecond=0) for zone in ZONES
    }
    zones = [ZONES[number % len(ZONES)] for number in range(count)]
    same: dict[str, Any] = {
        "name": "bench",
        "state": "active",
        "schedule_kind": "daily",
        "interval": 1,
        "weekdays": [],
        "cron": "",
        "next_number": 1,
        "max_slippage_bps": 200,
        "missed_policy": "run_once",
        "grace_seconds": 86_400,
        "run_all_limit": 1,
        "run_after": due_at,
        "created_at": now,
    }
    ids = uuid7_many(count, now)
    bulk.insert(
        "plans_plan",
        {
            "id": ids,
            "owner_id": world.owners,
            "zone": zones,
            "local_time": [local[zone] for zone in zones],
            "start_at": [due_at - timedelta(days=number % 365) for number in range(count)],
            "market_id": [world.market_of(number).pk for number in range(count)],
            "amount_units": [
                AMOUNT_UNITS[world.market_of(number).sold_asset.code] for number in range(count)
            ],
            **{column: [value] * count for column, value in same.items()},
        },
    )
    return ids


def settle_down(stack: Stack) -> None:
    """Between two runs: prices as at the start (buys moved the pools), fresh statistics, no write-back left."""
    market = stack.sandbox.market
    for pool in market.deployment.pools:
        price = market.feed_price(symbol=pool.token0) / market.feed_price(symbol=pool.token1)
        # A pool that is as good as there is left alone: moving it by a unit or two reverts.
        if abs(market.pool_price(pool, base=pool.token0) / price - 1) > Decimal("0.0005"):
            market.move_pool(pool, base=pool.token0, price=price)
    market.refresh_feeds()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")
