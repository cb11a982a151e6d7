"""Two people with one of everything that has an id: what tests that walk all routes stand on.

A new route with a new kind of id needs a line in `Town.ids`; a new operation with a body needs a story.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from allauth.mfa.models import Authenticator
from django.apps import apps

from apps.accounts import second_factor
from apps.accounts.exports import export_request, link_sign
from apps.accounts.me.models import DataExport, ExportPart
from apps.accounts.models import ApiKey, User
from apps.accounts.services import api_key_create
from apps.core import clock, partitions, work
from apps.core.ids import uuid7
from apps.core.models import Asset
from apps.deposits.models import Scan
from apps.fees.services import fee_schedule_set
from apps.plans import kinds
from apps.plans.models import Plan, Slot
from apps.plans.services import plan_create
from apps.plans.terms import ScheduleInput
from apps.providers.models import Market, PriceSnapshot
from apps.treasury.models import ReservesSnapshot
from apps.withdrawals.models import Withdrawal, WithdrawalDestination, WithdrawalRule
from apps.withdrawals.services import withdrawal_request
from tests.accounts.signin.authenticator import Authenticator as Phone
from tests.accounts.signin.provider import Provider
from tests.accounts.tokens.support import sign_in
from tests.core.api.support import ApiClient, user_with_key
from tests.deposits.conftest import bank_make
from tests.deposits.support import USDC, Bank

# The example of EIP-55.
OUTSIDE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
# Two days before Europe's clocks change.
FRIDAY = datetime(2030, 3, 29, 20, 15, 42, tzinfo=UTC)
CODE = "123456"


class OneCode:
    """A second factor of everybody who asks for one, right whenever it is `CODE`."""

    def enrolled(self, *, user_ids: Any) -> set[UUID]:
        return set(user_ids)

    def verify(self, *, user_id: UUID, code: str, purpose: str) -> bool:
        return code == CODE


@dataclass
class Town:
    """Ann has everything, Bob has a key and a session. `ids` are Ann's, by the name that routes give them."""

    bank: Bank
    market: Market
    ann: User
    client: ApiClient
    bob: User
    stranger: ApiClient
    # For what takes no API key.
    session: ApiClient
    strangers_session: ApiClient
    ids: dict[str, Any] = field(default_factory=dict)
    # The identity provider, where the tests have one.
    google: Provider | None = None

    def plan(self, **changes: Any) -> Plan:
        values: dict[str, Any] = {"name": "Ether every morning", "amount_units": 100 * USDC, **changes}
        schedule = ScheduleInput(kind="daily", at="09:00", time_zone="Europe/Berlin", start_at=clock.now())
        return plan_create(owner_id=self.ann.pk, market=self.market, schedule=schedule, **values)

    def slot(self) -> Slot:
        """One that is reserved, of a plan whose first run is now."""
        plan = self.plan()
        Plan.objects.filter(pk=plan.pk).update(
            run_after=clock.now(), start_at=clock.now() - timedelta(days=1)
        )
        work.drain(kinds.OPEN, budget_seconds=5)
        work.drain(kinds.RESERVE, budget_seconds=5)
        return Slot.objects.get(plan=plan)

    def destination(self) -> WithdrawalDestination:
        past = clock.now() - timedelta(days=2)
        found, _ = WithdrawalDestination.objects.get_or_create(
            user=self.ann,
            address=OUTSIDE.lower(),
            defaults={"label": "Cold wallet", "created_at": past, "usable_at": past},
        )
        return found

    def withdrawal(self, *, state: str = "") -> Withdrawal:
        self.destination()
        row = withdrawal_request(
            user_id=self.ann.pk, asset=self.bank.usdc, amount_units=100 * USDC, destination=OUTSIDE
        )
        if state:
            Withdrawal.objects.filter(pk=row.pk).update(state=state)
        return row

    def api_key(self) -> ApiKey:
        return api_key_create(user_id=self.ann.pk, name="Accounting", scopes=["balances:read"]).api_key

    def export(self) -> DataExport:
        """One that can be downloaded. A worker builds it in a transaction of its own kind, which a test's is not."""
        now, row = clock.now(), export_request(user_id=self.ann.pk)
        ExportPart.objects.create(export=row, number=0, content=b"PK\5\6" + bytes(18))
        DataExport.objects.filter(pk=row.pk).update(
            state="ready", size_bytes=22, sha256="0" * 64, rows={"account": 1, "plans": 1},
            ready_at=now, expires_at=now + timedelta(days=7), run_after=now + timedelta(days=7),
        )  # fmt: skip
        return row

    def passkey(self) -> Authenticator:
        """One that nobody can show: listed, renamed and removed it can be."""
        options = {"rp": {"id": "testserver"}, "user": {"id": "AA"}, "challenge": "AA"}
        data = {
            "name": "Phone",
            "passwordless": True,
            "credential": Phone().create({"publicKey": options}),
        }
        row: Authenticator = Authenticator.objects.create(
            # A number that no answer has by chance.
            pk=987_654_321_012,
            user=self.ann,
            type="webauthn",
            data=data,
        )
        return row


def town_make(travel: Callable[..., int]) -> Town:
    travel(to=FRIDAY)
    partitions.ensure()
    second_factor.install(OneCode())
    bank = bank_make()
    weth = Asset.objects.create(code="WETH", name="Wrapped Ether", decimals=18)
    market = Market.objects.create(
        network=bank.network, sold_asset=bank.usdc, bought_asset=weth, min_trade_units=USDC, guard_bps=200
    )
    PriceSnapshot.objects.create(
        market=market,
        numerator=10**18,
        denominator=2_500 * USDC,
        gas_numerator=2_500 * USDC,
        gas_denominator=10**18,
        gas_price_units=10**10,
        swap_gas_units=130_000,
        block_number=9,
        observed_at=clock.now(),
        refreshed_at=clock.now(),
    )
    fee_schedule_set(tier="standard", asset_id=bank.usdc.pk, bps=25, min_units=10_000, max_units=5 * USDC)
    WithdrawalRule.objects.create(
        asset=bank.usdc,
        minimum_units=USDC,
        flat_fee_units=USDC // 2,
        gas_units=50_000,
        person_daily_units=10_000 * USDC,
        platform_hourly_units=10_000 * USDC,
        approval_above_units=5_000 * USDC,
    )
    Scan.objects.update_or_create(
        network=bank.network, defaults={"next_block": 10, "scanned_at": datetime.now(UTC)}
    )
    ReservesSnapshot.objects.create(
        network=bank.network,
        asset=bank.usdc,
        verdict="matched",
        liabilities_units=3_000 * USDC,
        ledger_units=3_000 * USDC,
        chain_units=3_000 * USDC,
        block_number=9,
        matched_block=9,
    )
    ann, client = user_with_key("ann@example.org")
    bob, stranger = user_with_key("bob@example.org")
    session, strangers = (ApiClient(sign_in(user).access_token) for user in (ann, bob))
    town = Town(bank, market, ann, client, bob, stranger, session, strangers)
    client.get("/api/v1/deposit-addresses")
    deposit = bank.credited(ann, 3_000 * USDC)
    slot, export = town.slot(), town.export()
    town.ids = {
        "deposit_id": deposit.pk,
        "slot_id": slot.pk,
        "plan_id": slot.plan_id,
        "withdrawal_id": town.withdrawal(state="awaiting_confirmation").pk,
        "destination_id": town.destination().pk,
        "api_key_id": town.api_key().pk,
        "session_id": sign_in(ann).session_id,
        "export_id": export.pk,
        # Of the link to the export's file.
        "signature": link_sign(export=export),
        "passkey_id": town.passkey().pk,
    }
    return town


def nobodys_id(one: UUID | int) -> UUID | int:
    """Of the same kind as `one`, of nothing that is there."""
    return uuid7() if isinstance(one, UUID) else one + 1_000_000


def everything() -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables of ours: what a refused request must leave as it was, but for when a key was used."""
    found = {}
    for model in apps.get_models():
        if model.__module__.startswith("apps.") and model._meta.label != "core.RateWindow":
            rows = [dict(row) for row in model._base_manager.order_by("pk").values()]
            for row in rows:
                row.pop("last_used_at", None)
            found[model._meta.label] = rows
    return found
