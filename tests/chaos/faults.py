"""What disturbs the world of plans, and how it shows that it did."""

import random
import signal
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import redis
from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.models import Q

from apps.chain.models import Network, OutboundTransaction, Wallet
from apps.chain.services import endpoint_add
from apps.core.models import Asset
from apps.events.models import Event
from apps.ledger.models import Journal
from apps.ledger.selectors import balances_for_owner
from apps.plans.models import Plan, Slot
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import tail
from apps.sandbox.runtime.processes import Child
from tests.chaos.world import World, final_wait, world_wait
from tests.support.stack import Stack, wait_until
from workers.task import QUEUE_OF

# What an operator types to credit a person by hand.
_CREDIT = """
from uuid import UUID
from apps.treasury.services import credit_by_hand
credit_by_hand(
    user_id=UUID("{user_id}"), asset_id=UUID("{asset_id}"), amount_units={units},
    reference="by-hand-{user_id}", note="by hand", actor="chaos",
)
"""
CREDIT_UNITS = 7


CREDIT_FAILPOINT = "treasury.credit.before_commit"
# The selector of approve(address,uint256), as raw transactions hold it.
_APPROVE = "095ea7b3"


def slots(world: World, *states: str) -> bool:
    return Slot.objects.filter(plan_id__in=world.plan_ids, state__in=states).exists()


def redis_flush(stack: Stack, world: World, chance: random.Random) -> None:
    client = redis.Redis.from_url(settings.REDIS_URL)
    for _ in range(3):
        client.flushall()
        threading.Event().wait(chance.uniform(0.1, 0.8))
    client.close()


def redis_restart(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.sandbox.valkey is not None
    wait_until(lambda: slots(world, "reserved", "batched", "settled"), seconds=30, what="slots on their way")
    stack.sandbox.valkey.kill()
    threading.Event().wait(chance.uniform(0.2, 1.0))
    stack.sandbox.valkey.start()


def postgres_restart(when: Callable[[World], bool]) -> Callable[[Stack, World, random.Random], None]:
    """Stop PostgreSQL as a crash would, the moment `when` holds, and start it again."""

    def during(stack: Stack, world: World, chance: random.Random) -> None:
        assert stack.sandbox.postgres is not None
        wait_until(lambda: when(world), seconds=60, what="the moment to stop PostgreSQL")
        connection.close()
        stack.sandbox.postgres.stop_immediate()
        threading.Event().wait(chance.uniform(0.2, 1.0))
        stack.sandbox.postgres.start()

    return during


def random_kills(stack: Stack, world: World, chance: random.Random) -> None:
    for _ in range(5):
        threading.Event().wait(chance.uniform(0.3, 2.5))
        stack.kill(chance.choice(["worker", "worker", "signer", "beat"]))


def twice(stack: Stack, world: World, chance: random.Random) -> None:
    """A second worker, signer and beat beside the first ones, until the case is over."""
    children = []
    for role in ("worker", "signer", "beat"):
        first = stack.child(role)
        twin = Child(
            name=f"{role}-2",
            argv=first.argv,
            log=stack.directory / "logs" / f"{role}-2.log",
            environment={**stack.environment(keys=role == "signer"), "HEARTBEAT_DIR": str(stack.directory)},
            directory=Path(settings.BASE_DIR),
        )
        twin.start()
        children.append(twin)
    try:
        world_wait(world)
    finally:
        for twin in children:
            twin.stop(grace_seconds=14)


def redeliver(stack: Stack, world: World, chance: random.Random) -> None:
    for _ in range(5):
        for name, queue in QUEUE_OF.items():
            current_app.send_task(name, queue=queue)
        threading.Event().wait(chance.uniform(0.1, 0.6))


def fault(
    kind: str, *, lasts: float | None = None, **options: object
) -> Callable[[Stack, World, random.Random], None]:
    """A fault of the RPC endpoint that ends by itself: after `times` answers, or when it `lasts` seconds.

    Faults that open the breaker are measured in seconds: one that waits for answers would wait for ever longer rests.
    """

    def inject(stack: Stack, world: World, chance: random.Random) -> None:
        assert stack.proxy is not None
        stack.proxy.fault(kind, **options)
        if lasts is not None:
            threading.Event().wait(lasts)
            stack.proxy.clear()

    return inject


def fault_set(kind: str, **options: object) -> Callable[[Stack, Any], dict[str, str]]:
    """A fault that is there before anything is due: what is met once in a case may be over soon."""

    def arm(stack: Stack, world: World) -> dict[str, str]:
        assert stack.proxy is not None
        stack.proxy.fault(kind, **options)
        return {}

    return arm


def two_endpoints(
    kind: str, *, second: bool = False, **options: object
) -> Callable[[Stack, World], dict[str, str]]:
    """A second endpoint of lower priority; the first (or the second) has a fault until the case is over."""

    def arm(stack: Stack, world: World) -> dict[str, str]:
        assert stack.proxy is not None
        assert stack.proxy_second is not None
        stack.proxy_second.asked.clear()
        stack.proxy_second.met = 0
        network = Network.objects.get()
        endpoint_add(network_id=network.pk, name="second", url=stack.proxy_second.url, priority=20)
        (stack.proxy_second if second else stack.proxy).fault(kind, **options)
        return {}

    return arm


def second_was_asked(stack: Stack, world: World) -> list[str]:
    assert stack.proxy_second is not None
    sent = stack.proxy_second.asked.count("eth_sendRawTransaction")
    return [] if sent >= len(swaps(world)) else ["the second endpoint sent no transaction"]


def second_spoiled(stack: Stack, world: World) -> list[str]:
    assert stack.proxy_second is not None
    return [] if stack.proxy_second.met else ["the fault was not met: nobody asked the second endpoint"]


def agree_after(seconds: float) -> Callable[[Stack, World, random.Random], None]:
    def during(stack: Stack, world: World, chance: random.Random) -> None:
        assert stack.proxy_second is not None
        threading.Event().wait(seconds)
        stack.proxy_second.clear()

    return during


def refuse(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.proxy is not None
    stack.proxy.stop()
    threading.Event().wait(6)
    stack.proxy.start()


def swaps(world: World, **having: object) -> list[OutboundTransaction]:
    """Swaps of the case's batches. By batch id: a batch that is priced anew points at its newest swap only."""
    batches = Slot.objects.filter(plan_id__in=world.plan_ids, batch__isnull=False)
    references = Q()
    for batch_id in set(batches.values_list("batch_id", flat=True)):
        references |= Q(reference__startswith=f"batch:{batch_id}:")
    return list(OutboundTransaction.objects.filter(references, **having)) if references else []


def sent(world: World) -> list[OutboundTransaction]:
    return swaps(world, state="sent")


def _hold_mining(stack: Stack, world: World) -> list[OutboundTransaction]:
    """Stop blocks and wait until the swaps of the case are in the mempool and nowhere else.

    Allowances are mined meanwhile, or no swap would be sent; a swap that was sent first may go with them.
    """
    assert stack.sandbox.anvil is not None
    anvil = stack.sandbox.anvil
    anvil.mining_manual()

    def held() -> bool:
        if OutboundTransaction.objects.filter(purpose="allowance", state="sent").exists():
            anvil.mine()
        rows = swaps(world)
        return len(rows) == 2 and all(row.attempts_made.exists() for row in rows) and bool(sent(world))

    wait_until(held, seconds=60, what="swaps in the mempool")
    return sent(world)


def _mine_again(stack: Stack) -> None:
    assert stack.sandbox.anvil is not None
    stack.sandbox.anvil.mining_interval(seconds=1)


def dropped(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.sandbox.anvil is not None
    for row in _hold_mining(stack, world):
        for attempt in row.attempts_made.all():
            stack.sandbox.anvil.transaction_drop(attempt.hash)
    _mine_again(stack)


def stuck(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.sandbox.anvil is not None
    rows = _hold_mining(stack, world)
    fee = max(attempt.max_fee_units for row in rows for attempt in row.attempts_made.all())
    # Empty blocks lower the base fee by an eighth each: this stays above the bid for eight of them, and a
    # transaction is stuck after five.
    stack.sandbox.anvil.base_fee_set(wei=fee * 3)
    _mine_again(stack)


def was(topic: str) -> Callable[[Stack, World], list[str]]:
    """The fault was really met: the event that only it brings about was written."""

    def check(stack: Stack, world: World) -> list[str]:
        first = min(plan.created_at for plan in world.plans)
        met = Event.objects.filter(topic=topic, occurred_at__gte=first).exists()
        return [] if met else [f"the fault was not met: no {topic}"]

    return check


def reorg(stack: Stack, world: World, chance: random.Random) -> None:
    """The block with the swaps is taken back while they have one confirmation of two."""
    assert stack.sandbox.anvil is not None
    anvil = stack.sandbox.anvil
    rows = [row.pk for row in _hold_mining(stack, world)]
    anvil.mine()
    wait_until(
        lambda: OutboundTransaction.objects.filter(pk__in=rows, state="mined").count() == len(rows),
        seconds=40,
        what="swaps mined at depth 1",
    )
    anvil.reorg(depth=1)
    _mine_again(stack)


def runaway(stack: Stack, world: World, chance: random.Random) -> None:
    """Between quote and block the market runs away: broadcasts do not reach the node until the price has moved.

    An approval of a router, which is due every sixteen swaps, comes through: no swap is made without it.
    """
    assert stack.proxy is not None
    stack.proxy.fault("drop_request", method="eth_sendRawTransaction", spare=_APPROVE)
    wait_until(lambda: len(sent(world)) == 2, seconds=60, what="both swaps given to the endpoint")
    market = stack.sandbox.market
    for symbol in ("WETH", "WBTC"):
        market.move_asset(symbol=symbol, price=market.feed_price(symbol=symbol) * Decimal("1.1"))
    stack.proxy.clear()


def reverted_once(stack: Stack, world: World) -> list[str]:
    """Each market's first swap reverted and the second was bought; the gas of both is in the books."""
    found = [(row.state, row.gas_cost_units > 0, row.gas_booked_at is not None) for row in swaps(world)]
    wanted = [("confirmed", True, True)] * 2 + [("reverted", True, True)] * 2
    return [] if sorted(found) == wanted else [f"swaps: expected {wanted}, found {sorted(found)}"]


def credit_killed(stack: Stack, world: World, chance: random.Random) -> None:
    """An operator credits by hand, dies before the commit, and says the same again, twice."""
    stack.sandbox.market.mint(symbol="LINK", to=Wallet.objects.get(role="swap").address, units=CREDIT_UNITS)
    # Only then may the books say so.
    final_wait(stack)
    said = _CREDIT.format(
        user_id=world.people[0].pk, asset_id=Asset.objects.get(code="LINK").pk, units=CREDIT_UNITS
    )
    for number, wanted in enumerate((-signal.SIGKILL, 0, 0)):
        command = stack.command_child(f"credit-{number}", ["shell", "-v", "0", "-c", said])
        command.start()
        status = command.wait(seconds=60)
        command.stop()
        if status != wanted:
            raise SandboxError(
                f"command {number} ended with {status}, expected {int(wanted)}: {tail(command.log)}"
            )


def credited_once(stack: Stack, world: World) -> list[str]:
    person = world.people[0]
    posted = Journal.objects.filter(reference=f"credit:by-hand-{person.pk}").count()
    told = Event.objects.filter(
        topic="balance.credited", subject_id=person.pk, payload__note="by hand"
    ).count()
    balance = {b.asset.code: b.available_units for b in balances_for_owner(owner_id=person.pk)}.get("LINK")
    found = (posted, told, balance)
    return [] if found == (1, 1, CREDIT_UNITS) else [f"journals, events, balance: {found}"]


def poison_plan(stack: Stack, world: World) -> dict[str, str]:
    Plan.objects.filter(pk=world.plans[4].pk).update(schedule_kind="daily", zone="Nowhere/Never")
    return {}


def poison_buried(stack: Stack, world: World) -> list[str]:
    plan = Plan.objects.get(pk=world.plans[4].pk)
    wrong = (
        []
        if plan.buried_at is not None and "zone" in plan.last_error.lower()
        else [f"not buried: {plan.last_error!r}"]
    )
    _unpoison(plan)
    return wrong


def lethal_plan(stack: Stack, world: World) -> dict[str, str]:
    return {"worker": f"work.plans.open.claimed:{world.plans[4].pk}=kill@always"}


def lethal_buried(stack: Stack, world: World) -> list[str]:
    plan = Plan.objects.get(pk=world.plans[4].pk)
    wrong = (
        []
        if plan.buried_at is not None and "lost" in plan.last_error
        else [f"not buried: {plan.last_error!r}"]
    )
    _unpoison(plan)
    return wrong


def _unpoison(plan: Plan) -> None:
    Plan.objects.filter(pk=plan.pk).update(state="cancelled", buried_at=None, zone="UTC")
