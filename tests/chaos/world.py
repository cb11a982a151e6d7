"""What every case plays with: the same people and plans, due at one instant, and the books they must end with."""

import itertools
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection, transaction

from apps.accounts.models import User
from apps.chain.models import Network, NetworkWatch, OutboundTransaction, RpcEndpoint, Wallet
from apps.chain.services import network_resume
from apps.core import clock, doorbell, invariants, work
from apps.core.models import Asset
from apps.deposits.models import Scan
from apps.ledger.selectors import balances_for_owner
from apps.plans.models import Batch, Plan, Slot
from apps.providers.models import Market, VenueHealth
from apps.treasury.services import credit_by_hand
from tests.support.stack import Stack, wait_until

USDC = 10**6
SETTLE_SECONDS = 120.0

# name, person, bought asset, whole USDC, what is special
_PLANS: tuple[tuple[str, int, str, int, dict[str, Any]], ...] = (
    ("ether 1", 0, "WETH", 100, {}),
    ("ether 2", 0, "WETH", 55, {}),
    ("ether 3", 1, "WETH", 100, {}),
    ("bitcoin 1", 0, "WBTC", 80, {}),
    ("bitcoin 2", 0, "WBTC", 33, {}),
    ("too dear", 0, "WETH", 70, {"price_max_units": 1 * USDC}),
    ("no funds left", 1, "WBTC", 100, {"late": 1}),
)

_counter = itertools.count(1)


@dataclass(frozen=True)
class World:
    """The people and plans of one case."""

    people: list[User]
    plans: list[Plan]

    @property
    def plan_ids(self) -> list[UUID]:
        return [plan.pk for plan in self.plans]

    def slots(self) -> list[Slot]:
        return list(
            Slot.objects.filter(plan_id__in=self.plan_ids).select_related("plan").order_by("plan__name")
        )


def people_names() -> list[str]:
    """Two people that no case had before."""
    number = next(_counter)
    return [f"case{number}-{index}@example.org" for index in range(2)]


def endpoints_heal() -> None:
    """A case must not pay for what the one before it broke."""
    RpcEndpoint.objects.exclude(name="anvil").delete()
    RpcEndpoint.objects.update(failures=0, open_until=None, last_block=None, last_error="")
    VenueHealth.objects.all().delete()
    networks_resume()


def networks_resume() -> None:
    """What an operator does with a network that halted."""
    for network in Network.objects.filter(halted_at__isnull=False):
        network_resume(network_id=network.pk, actor="chaos")


def world_make(stack: Stack) -> World:
    """Two people with money that really lies in the wallet, and their plans, not due yet."""
    asset, wallet = Asset.objects.get(code="USDC"), Wallet.objects.get(role="swap")
    people = []
    shares = (1_000, 150)
    stack.sandbox.market.mint(symbol="USDC", to=wallet.address, units=sum(shares) * USDC)
    final_wait(stack)
    for name, funds in zip(people_names(), shares, strict=True):
        person = User.objects.create(email=name)
        credit_by_hand(
            user_id=person.pk,
            asset_id=asset.pk,
            amount_units=funds * USDC,
            reference=name,
            note="chaos",
            actor="chaos",
        )
        people.append(person)
    later = clock.now() + timedelta(days=300)
    plans = []
    for name, person_index, bought, usdc, special in _PLANS:
        values = {key: value for key, value in special.items() if key != "late"}
        plans.append(
            Plan.objects.create(
                owner=people[person_index],
                market=Market.objects.get(sold_asset__code="USDC", bought_asset__code=bought),
                name=name,
                amount_units=usdc * USDC,
                schedule_kind="hourly",
                interval=8_784,
                zone="UTC",
                start_at=later,
                run_after=later,
                max_slippage_bps=200,
                **values,
            )
        )
    return World(people, plans)


def final_wait(stack: Stack) -> None:
    """Until the platform holds the chain's head as final, if it watches the chain already.

    Books that are ahead of the chain are a divergence; two looks at that, in two cases, and buying is paused.
    """
    network = Network.objects.get()
    if network.watched_block is None or not stack.roles_running:
        return
    assert stack.sandbox.anvil is not None
    head = int(stack.sandbox.anvil.rpc.call("eth_blockNumber"), 16)

    def final() -> bool:
        connection.close_if_unusable_or_obsolete()
        network.refresh_from_db()
        return network.final_block is not None and network.final_block >= head

    wait_until(final, seconds=30, what=lambda: f"block {head} is final; now {network.final_block}")


def world_begin(world: World) -> None:
    """All plans fall due at one instant, in one commit."""
    now = clock.now()
    with transaction.atomic():
        for plan, (*_, special) in zip(world.plans, _PLANS, strict=True):
            at = now - timedelta(seconds=10 - special.get("late", 0))
            Plan.objects.filter(pk=plan.pk).update(start_at=at, run_after=at)
        doorbell.ring("plans.open")


def world_wait(world: World, *, but: int = 0) -> float:
    """Until every plan has its outcome, and every transaction is final and its gas booked.

    `but` plans have no outcome but are buried.
    """

    def done() -> bool:
        connection.close_if_unusable_or_obsolete()
        closed = Slot.objects.filter(plan_id__in=world.plan_ids, closed_at__isnull=False).count()
        buried = Plan.objects.filter(pk__in=world.plan_ids, buried_at__isnull=False).count()
        if closed < len(world.plans) - but or buried != but:
            return False
        open_ones = OutboundTransaction.objects.filter(finalized_at__isnull=True)
        unbooked = OutboundTransaction.objects.filter(gas_used__gt=0, gas_booked_at__isnull=True)
        return not (open_ones.exists() or unbooked.exists())

    return wait_until(done, seconds=SETTLE_SECONDS, what=lambda: f"settled; now {world_state(world)}")


def world_state(world: World) -> list[tuple[str, str, str]]:
    return [(slot.plan.name, slot.state, slot.reason) for slot in world.slots()]


def world_report() -> str:
    """Where all work stands, for whoever looks into a case that broke; says so when the database cannot tell."""
    try:
        return "\n".join(
            f"-- {title}\n" + "\n".join(map(str, rows))
            for title, rows in (
                ("work", work.depths().items()),
                ("slots", Slot.objects.filter(closed_at__isnull=True).values()),
                ("batches", Batch.objects.order_by("-created_at").values()[:6]),
                (
                    "transactions",
                    OutboundTransaction.objects.order_by("-created_at").values(*_TRANSACTION)[:8],
                ),
                ("watches", NetworkWatch.objects.values()),
                ("endpoints", RpcEndpoint.objects.values(*_ENDPOINT)),
            )
        )
    except DatabaseError as error:
        return f"no report: {error!r}"


_ITEM = ("id", "state", "run_after", "attempts", "leased_until", "buried_at", "last_error")
_TRANSACTION = (*_ITEM, "purpose", "nonce", "reason", "block_number", "finalized_at", "gas_booked_at")
_ENDPOINT = ("name", "priority", "failures", "open_until", "last_block", "last_error")


def world_books(world: World) -> dict[str, Any]:
    """What must be the same however the run was disturbed.

    Units received depend on where the pools stood; that they are what the chain paid, shared exactly, is proved by
    the invariants to the last unit.
    """
    slots = world.slots()
    references = [f"slot:{slot.pk}:{step}" for slot in slots for step in ("hold", "settle", "release")]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT kind, count(*) FROM ledger_journal WHERE reference = ANY(%s) GROUP BY kind ORDER BY kind",
            [references],
        )
        journals = dict(cursor.fetchall())
    balances = {}
    for index, person in enumerate(world.people):
        for balance in balances_for_owner(owner_id=person.pk):
            if balance.asset.code == "USDC":
                balances[index] = (balance.available_units, balance.held_units)
    return {
        "slots": [
            (s.plan.name, s.number, s.state, s.reason, s.amount_units, s.fee_units, s.swap_units)
            for s in slots
        ],
        "bought": [s.plan.name for s in slots if (s.received_units or 0) > 0],
        "balances": balances,
        "journals": journals,
    }


def invariants_broken() -> list[str]:
    """The violations of all invariants, named.

    What a case credited by hand is on chain from its block on, and the comparison is made at the monitor's: a worker
    that was killed may have left it a lease. Blocks go on while books and chain are compared: a look at which the
    monitor is some blocks behind proves nothing either way, and is repeated.
    """
    watched = Network.objects.get().watched_block or 0
    wait_until(
        lambda: not Scan.objects.filter(next_block__lte=watched).exists(),
        seconds=60,
        what=lambda: f"deposits are read up to block {watched}",
    )
    found: list[str] = []
    for _ in range(40):
        found = _broken()
        if not any("arrivals are recorded up to block" in one for one in found):
            break
        threading.Event().wait(0.25)
    return found


def _broken() -> list[str]:
    return [f"{v.name}: {violation}" for v in invariants.run_all() for violation in v.violations]
