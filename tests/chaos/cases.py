"""Every fault, how it is injected, and what must hold afterwards."""

import ast
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
from apps.core import work
from apps.core.models import Asset
from apps.events.models import Event
from apps.ledger.models import Journal
from apps.ledger.selectors import balances_for_owner
from apps.plans.models import Plan, Slot
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import tail
from apps.sandbox.runtime.processes import Child
from tests.chaos import money
from tests.chaos.world import World, world_wait
from tests.support.stack import Stack, wait_until
from workers.task import QUEUE_OF

SAME = "the books of the undisturbed run, all invariants"

# Not reached by a role of this stack, and why.
NOT_HERE = {
    "core.keys.rotate.before_update": "keys are rotated by an operator's command (tests/core/test_keys.py)",
    "core.keys.rotate.before_commit": "keys are rotated by an operator's command (tests/core/test_keys.py)",
    "core.keys.rotate.after_commit": "keys are rotated by an operator's command (tests/core/test_keys.py)",
    "sandbox.faucet.before_till": "the sandbox's own command (tests/sandbox/test_faucet.py)",
    "sandbox.faucet.after_till": "the sandbox's own command (tests/sandbox/test_faucet.py)",
    "sandbox.faucet.sent": "the sandbox's own command (tests/sandbox/test_faucet.py)",
    "sandbox.faucet.after_mint": "the sandbox's own command (tests/sandbox/test_faucet.py)",
    "sandbox.faucet.after_credit": "the sandbox's own command (tests/sandbox/test_faucet.py)",
    "deposits.debts.before_commit": "nobody owes anything (tests/deposits/test_reorgs.py)",
    "deposits.hand.before_commit": "an operator's click (tests/deposits/test_kills.py)",
    "plans.price.collection_awaited": "no plan here waits for a sweep (tests/deposits/test_sweep_kills.py)",
    **dict.fromkeys(
        (
            f"withdrawals.{call}.before_commit"
            for call in ("request", "cancel", "confirm", "approve", "reject")
        ),
        "a person's or an operator's call (tests/withdrawals/test_kills.py)",
    ),
    "deposits.rescan.before_rpc": "nobody asks for a rescan; killed there in tests/deposits/scanning/test_kills.py",
    "deposits.rescan.after_rpc": "nobody asks for a rescan; killed there in tests/deposits/scanning/test_kills.py",
    "deposits.rescan.before_commit": "nobody asks for a rescan; killed there in tests/deposits/scanning/test_kills.py",
    "deposits.rescan.after_commit": "nobody asks for a rescan; killed there in tests/deposits/scanning/test_kills.py",
    "work.deposits.rescan.claimed": "nobody asks for a rescan; killed there in tests/deposits/scanning/test_kills.py",
    "work.core.probe.claimed": "the no-op kind has no work in a case",
    "work.core.probe.before_commit": "the no-op kind has no work in a case",
    "work.core.probe.after_commit": "the no-op kind has no work in a case",
}


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


@dataclass(frozen=True)
class Case:
    """One row of the table. `during` runs once the plans are due; `but` plans do not end in a slot."""

    name: str
    fault: str
    how: str
    invariant: str = SAME
    failpoints: dict[str, str] = field(default_factory=dict)
    fires: str = ""
    # `during` releases the failpoint; otherwise it is released as the plans fall due.
    late: bool = False
    during: Callable[[Stack, World, random.Random], None] | None = None
    arm: Callable[[Stack, World], dict[str, str]] | None = None
    check: Callable[[Stack, World], list[str]] | None = None
    but: int = 0
    smoke: bool = False
    # The proxy must have spoiled an answer, or the case proves nothing.
    faulty: bool = False
    # Played with deposits, sweeps and withdrawals (tests/chaos/money.py) instead of plans.
    money: bool = False


def failpoint_names() -> set[str]:
    """Every name that the source passes to `reach`, the engine's spelled out per kind of work."""
    names: set[str] = set()
    for path in (Path(settings.BASE_DIR) / "apps").rglob("*.py"):
        if "node_modules" in path.parts or path.name == "failpoints.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _called(node) == "reach" and node.args:
                names.update(_spelled(node.args[0]))
    return names


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _spelled(argument: ast.expr) -> Iterator[str]:
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
    elif isinstance(argument, ast.JoinedStr):
        place = str(argument.values[-1].value)  # type: ignore[attr-defined]
        for kind in work.kinds():
            if place == ".claimed" or kind.advance is not None:
                yield f"work.{kind.name}{place}"


def _on_its_way(name: str) -> Callable[[Stack, World, random.Random], None]:
    """The network is always watched: only while a swap is on its way does dying there show anything."""

    def during(stack: Stack, world: World, chance: random.Random) -> None:
        wait_until(lambda: bool(_sent(world)), seconds=60, what="a swap on its way")
        stack.failpoint_release(name)
        wait_until(lambda: stack.fired(name), seconds=30, what=f"death at {name}")

    return during


def kill_cases() -> list[Case]:
    """One case per failpoint: the process that passes it dies there by SIGKILL, with its whole group.

    All failpoints are armed in all processes and held; a case releases its own. So a case costs no start but that of
    the process that died.
    """
    names = sorted(failpoint_names() - set(NOT_HERE) - {CREDIT_FAILPOINT})
    armed = ",".join(f"{name}=killgroup@1" for name in names)
    cases = []
    for name in names:
        if _is_money(name):
            cases.append(_money_kill(name, armed))
            continue
        watching = "chain.watch" in name
        cases.append(
            Case(
                name=f"kill {name}",
                fault=f"{'signer' if '.sign.' in name else 'worker'} dies at {name}",
                how="SIGKILL to the process group, restarted",
                failpoints={"worker": armed, "signer": armed},
                fires=name,
                late=watching,
                during=(
                    _reorg
                    if name.startswith("chain.rebroadcast")
                    else _on_its_way(name)
                    if watching
                    else None
                ),
                smoke=name in {"plans.settle.before_commit", "chain.send.after_rpc"},
            )
        )
    return cases


def _is_money(name: str) -> bool:
    return name.removeprefix("work.").startswith(
        ("deposits.", "withdrawals.", "treasury.reserves.", "chain.recheck.")
    )


def _money_kill(name: str, armed: str) -> Case:
    """Dying while deposits come in, are collected, or withdrawn."""
    forked = name in {
        "deposits.orphan.before_commit",
        "deposits.reverse.posted",
        "deposits.rewind.before_commit",
    }
    # A network is always scanned: only once there are deposits does dying there show anything.
    rechecked = "chain.recheck." in name
    late = ".scan." in name or ".final." in name or rechecked
    during: money.During | None = None
    if rechecked:
        during = money.sweep_forked(6, gone=True, name=name)
    elif forked:
        during = money.credit_forked(6, name=name)
    elif late:
        during = money.released(name)
    elif name.startswith("treasury.reserves."):
        during = money.reserves_checked
    return Case(
        name=f"kill {name}",
        fault=f"worker dies at {name}",
        how="SIGKILL to the process group, restarted",
        failpoints={"worker": armed, "signer": armed},
        fires=name,
        late=forked or late,
        arm=money.mining_held if forked else None,
        during=during,
        money=True,
    )


def _slots(world: World, *states: str) -> bool:
    return Slot.objects.filter(plan_id__in=world.plan_ids, state__in=states).exists()


def _redis_flush(stack: Stack, world: World, chance: random.Random) -> None:
    client = redis.Redis.from_url(settings.REDIS_URL)
    for _ in range(3):
        client.flushall()
        threading.Event().wait(chance.uniform(0.1, 0.8))
    client.close()


def _redis_restart(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.sandbox.valkey is not None
    wait_until(lambda: _slots(world, "reserved", "batched", "settled"), seconds=30, what="slots on their way")
    stack.sandbox.valkey.kill()
    threading.Event().wait(chance.uniform(0.2, 1.0))
    stack.sandbox.valkey.start()


def _postgres_restart(when: Callable[[World], bool]) -> Callable[[Stack, World, random.Random], None]:
    """Stop PostgreSQL as a crash would, the moment `when` holds, and start it again."""

    def during(stack: Stack, world: World, chance: random.Random) -> None:
        assert stack.sandbox.postgres is not None
        wait_until(lambda: when(world), seconds=60, what="the moment to stop PostgreSQL")
        connection.close()
        stack.sandbox.postgres.stop_immediate()
        threading.Event().wait(chance.uniform(0.2, 1.0))
        stack.sandbox.postgres.start()

    return during


def _random_kills(stack: Stack, world: World, chance: random.Random) -> None:
    for _ in range(5):
        threading.Event().wait(chance.uniform(0.3, 2.5))
        stack.kill(chance.choice(["worker", "worker", "signer", "beat"]))


def _twice(stack: Stack, world: World, chance: random.Random) -> None:
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


def _redeliver(stack: Stack, world: World, chance: random.Random) -> None:
    for _ in range(5):
        for name, queue in QUEUE_OF.items():
            current_app.send_task(name, queue=queue)
        threading.Event().wait(chance.uniform(0.1, 0.6))


def _fault(
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


def _two_endpoints(
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


def _second_was_asked(stack: Stack, world: World) -> list[str]:
    assert stack.proxy_second is not None
    sent = stack.proxy_second.asked.count("eth_sendRawTransaction")
    return [] if sent >= len(_swaps(world)) else ["the second endpoint sent no transaction"]


def _second_spoiled(stack: Stack, world: World) -> list[str]:
    assert stack.proxy_second is not None
    return [] if stack.proxy_second.met else ["the fault was not met: nobody asked the second endpoint"]


def _agree_after(seconds: float) -> Callable[[Stack, World, random.Random], None]:
    def during(stack: Stack, world: World, chance: random.Random) -> None:
        assert stack.proxy_second is not None
        threading.Event().wait(seconds)
        stack.proxy_second.clear()

    return during


def _refuse(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.proxy is not None
    stack.proxy.stop()
    threading.Event().wait(6)
    stack.proxy.start()


def _swaps(world: World, **having: object) -> list[OutboundTransaction]:
    """Swaps of the case's batches. By batch id: a batch that is priced anew points at its newest swap only."""
    batches = Slot.objects.filter(plan_id__in=world.plan_ids, batch__isnull=False)
    references = Q()
    for batch_id in set(batches.values_list("batch_id", flat=True)):
        references |= Q(reference__startswith=f"batch:{batch_id}:")
    return list(OutboundTransaction.objects.filter(references, **having)) if references else []


def _sent(world: World) -> list[OutboundTransaction]:
    return _swaps(world, state="sent")


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
        swaps = _swaps(world)
        return len(swaps) == 2 and all(row.attempts_made.exists() for row in swaps) and bool(_sent(world))

    wait_until(held, seconds=60, what="swaps in the mempool")
    return _sent(world)


def _mine_again(stack: Stack) -> None:
    assert stack.sandbox.anvil is not None
    stack.sandbox.anvil.mining_interval(seconds=1)


def _dropped(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.sandbox.anvil is not None
    for row in _hold_mining(stack, world):
        for attempt in row.attempts_made.all():
            stack.sandbox.anvil.transaction_drop(attempt.hash)
    _mine_again(stack)


def _stuck(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.sandbox.anvil is not None
    rows = _hold_mining(stack, world)
    fee = max(attempt.max_fee_units for row in rows for attempt in row.attempts_made.all())
    # Empty blocks lower the base fee by an eighth each: this stays above the bid for eight of them, and a
    # transaction is stuck after five.
    stack.sandbox.anvil.base_fee_set(wei=fee * 3)
    _mine_again(stack)


def _was(topic: str) -> Callable[[Stack, World], list[str]]:
    """The fault was really met: the event that only it brings about was written."""

    def check(stack: Stack, world: World) -> list[str]:
        first = min(plan.created_at for plan in world.plans)
        met = Event.objects.filter(topic=topic, occurred_at__gte=first).exists()
        return [] if met else [f"the fault was not met: no {topic}"]

    return check


def _reorg(stack: Stack, world: World, chance: random.Random) -> None:
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


def _runaway(stack: Stack, world: World, chance: random.Random) -> None:
    """Between quote and block the market runs away: broadcasts do not reach the node until the price has moved."""
    assert stack.proxy is not None
    stack.proxy.fault("drop_request", method="eth_sendRawTransaction")
    wait_until(lambda: len(_sent(world)) == 2, seconds=60, what="both swaps given to the endpoint")
    market = stack.sandbox.market
    for symbol in ("WETH", "WBTC"):
        market.move_asset(symbol=symbol, price=market.feed_price(symbol=symbol) * Decimal("1.1"))
    stack.proxy.clear()


def _reverted_once(stack: Stack, world: World) -> list[str]:
    """Each market's first swap reverted and the second was bought; the gas of both is in the books."""
    found = [(row.state, row.gas_cost_units > 0, row.gas_booked_at is not None) for row in _swaps(world)]
    wanted = [("confirmed", True, True)] * 2 + [("reverted", True, True)] * 2
    return [] if sorted(found) == wanted else [f"swaps: expected {wanted}, found {sorted(found)}"]


def _credit_killed(stack: Stack, world: World, chance: random.Random) -> None:
    """An operator credits by hand, dies before the commit, and says the same again, twice."""
    stack.sandbox.market.mint(symbol="LINK", to=Wallet.objects.get(role="swap").address, units=CREDIT_UNITS)
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


def _credited_once(stack: Stack, world: World) -> list[str]:
    person = world.people[0]
    posted = Journal.objects.filter(reference=f"credit:by-hand-{person.pk}").count()
    told = Event.objects.filter(
        topic="balance.credited", subject_id=person.pk, payload__note="by hand"
    ).count()
    balance = {b.asset.code: b.available_units for b in balances_for_owner(owner_id=person.pk)}.get("LINK")
    found = (posted, told, balance)
    return [] if found == (1, 1, CREDIT_UNITS) else [f"journals, events, balance: {found}"]


def _poison_plan(stack: Stack, world: World) -> dict[str, str]:
    Plan.objects.filter(pk=world.plans[4].pk).update(schedule_kind="daily", zone="Nowhere/Never")
    return {}


def _poison_buried(stack: Stack, world: World) -> list[str]:
    plan = Plan.objects.get(pk=world.plans[4].pk)
    wrong = (
        []
        if plan.buried_at is not None and "zone" in plan.last_error.lower()
        else [f"not buried: {plan.last_error!r}"]
    )
    _unpoison(plan)
    return wrong


def _lethal_plan(stack: Stack, world: World) -> dict[str, str]:
    return {"worker": f"work.plans.open.claimed:{world.plans[4].pk}=kill@always"}


def _lethal_buried(stack: Stack, world: World) -> list[str]:
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


OTHERS = [
    Case("undisturbed", "none", "what the others are compared with", smoke=True),
    Case(
        "redis flushed",
        "Redis loses everything, three times",
        "FLUSHALL mid-run",
        during=_redis_flush,
        smoke=True,
    ),
    Case("redis restarted", "Redis dies and comes back", "SIGKILL, restarted", during=_redis_restart),
    *(
        Case(
            f"postgres restarted {moment}",
            f"PostgreSQL dies {moment} and comes back",
            "SIGQUIT, restarted; asynchronous commits are the server's default",
            during=_postgres_restart(when),
        )
        for moment, when in (
            ("on the way", lambda world: _slots(world, "reserved", "batched", "settled")),
            ("after a signature", lambda world: bool(_swaps(world, state__in=["signed", "sent"]))),
            ("after a broadcast", lambda world: bool(_sent(world))),
            ("while settling", lambda world: _slots(world, "settled")),
        )
    ),
    Case("random kills", "worker, signer, beat die at any time", "SIGKILL × 5, seeded", during=_random_kills),
    Case("everything twice", "two workers, two signers, two beats", "second set of processes", during=_twice),
    Case("redelivered", "every task delivered five times", "published 5×", during=_redeliver),
    Case(
        "poison row",
        "a plan whose schedule cannot be computed",
        "a daily plan's zone overwritten by SQL",
        "it is buried with its reason; the others' books",
        arm=_poison_plan,
        check=_poison_buried,
        but=1,
    ),
    Case(
        "lethal row",
        "a plan that kills whoever works on it",
        "SIGKILL each time it is claimed",
        "it is buried after its attempts; the others' books",
        arm=_lethal_plan,
        check=_lethal_buried,
        but=1,
    ),
    Case(
        "rpc answer lost",
        "the node takes a transaction, the answer is lost",
        "proxy drops the answer × 4",
        during=_fault("drop_answer", method="eth_sendRawTransaction", times=4),
        smoke=True,
        faulty=True,
    ),
    Case(
        "rpc late",
        "the node answers late",
        "proxy delays 2 s × 15",
        during=_fault("delay", seconds=2.0, times=15),
        faulty=True,
    ),
    Case("rpc refuses", "the node is away for 6 s", "proxy refuses connections", during=_refuse),
    Case(
        "rpc 429",
        "the node limits the rate for 15 s",
        "HTTP 429 for 15 s",
        during=_fault("status", status=429, lasts=15),
        faulty=True,
    ),
    Case(
        "rpc garbage",
        "the node answers no JSON for 6 s",
        "proxy for 6 s",
        during=_fault("garbage", lasts=6),
        faulty=True,
    ),
    Case(
        "rpc head ahead",
        "the node lies: head 500 ahead",
        "proxy × 20",
        during=_fault("head", offset=500, times=20),
        faulty=True,
    ),
    Case(
        "rpc head behind",
        "the node lies: head 3 behind",
        "proxy × 20",
        during=_fault("head", offset=-3, times=20),
        faulty=True,
    ),
    Case(
        "rpc null receipts",
        "the node has forgotten receipts",
        "null × 20",
        during=_fault("null", method="eth_getTransactionReceipt", times=20),
        faulty=True,
    ),
    Case(
        "rpc one of two away",
        "the first of two endpoints is away all the time",
        "proxy drops every request",
        arm=_two_endpoints("drop_request"),
        check=_second_was_asked,
        faulty=True,
    ),
    Case(
        "rpc one of two lies",
        "the first of two endpoints claims a head 500 ahead all the time",
        "proxy",
        arm=_two_endpoints("head", offset=500),
        faulty=True,
    ),
    Case(
        "rpc two disagree",
        "two endpoints show different blocks for a while",
        "proxy changes hashes for 8 s",
        arm=_two_endpoints("hash", second=True),
        during=_agree_after(8),
        check=_second_spoiled,
    ),
    Case(
        "reverted",
        "the market runs away between quote and block: both swaps revert",
        "pools and feeds moved by 10 %",
        "priced anew and bought; the gas of both tries is booked; the books of the undisturbed run",
        during=_runaway,
        check=_reverted_once,
        faulty=True,
    ),
    Case(
        f"kill {CREDIT_FAILPOINT}",
        f"an operator's command dies at {CREDIT_FAILPOINT}",
        "SIGKILL, typed again twice",
        "credited and told once; the books of the undisturbed run",
        failpoints={"worker": f"{CREDIT_FAILPOINT}=kill@1"},
        fires=CREDIT_FAILPOINT,
        during=_credit_killed,
        check=_credited_once,
    ),
    Case("dropped", "swaps vanish from the mempool", "anvil_dropTransaction", during=_dropped),
    Case(
        "stuck",
        "the base fee rises above what was bid",
        "base fee set to 3 × the bid",
        during=_stuck,
        check=_was("transaction.replaced"),
    ),
    Case(
        "reorg",
        "a mined swap's block is taken back at depth 1",
        "anvil_reorg",
        during=_reorg,
        check=_was("transaction.reorged"),
    ),
]


def _money(name: str, fault: str, how: str, invariant: str = SAME, **options: Any) -> Case:
    return Case(f"money {name}", fault, how, invariant, money=True, **options)


MONEY = [
    _money("undisturbed", "none", "what the others are compared with"),
    _money(
        "reorg 1 during credit",
        "a deposit's block is taken back before its credit",
        "anvil_reorg, included again later",
        arm=money.mining_held,
        during=money.credit_forked(1),
        check=money.was("deposit.orphaned"),
    ),
    _money(
        "reorg 6 during credit",
        "credited deposits' blocks are taken back",
        "anvil_reorg, included again later",
        arm=money.mining_held,
        during=money.credit_forked(6),
        check=money.was("deposit.reversed"),
    ),
    _money(
        "reorg beyond the limit during credit",
        "a fork deeper than the network's limit",
        "reorg_limit 3, anvil_reorg of 6, included again, resumed by an operator",
        arm=money.mining_held,
        during=money.credit_forked(6, limit=3),
        check=money.was("network.halted"),
    ),
    _money(
        "reorg 1 during a sweep",
        "a mined sweep's block is taken back at depth 1",
        "anvil_reorg",
        during=money.sweep_forked(1),
        check=money.was("transaction.reorged"),
    ),
    _money(
        "reorg 6 during a sweep",
        "final sweeps' blocks are taken back: the network halts",
        "anvil_reorg of 6 with the same transactions, resumed by an operator",
        during=money.sweep_forked(6),
        check=money.found_again(gone=False),
    ),
    _money(
        "reorg 6 without our transactions",
        "final transactions are on no chain any more: the network halts",
        "anvil_reorg of 6 without what we sent, resumed by an operator",
        "each is sent again once and booked once; the books of the undisturbed run, all invariants",
        during=money.sweep_forked(6, gone=True),
        check=money.found_again(gone=True),
    ),
    *(
        _money(
            name,
            fault,
            how,
            arm=money.fault_set(kind, **options),
            during=money.faulty(lasts=lasts),
            faulty=True,
        )
        for name, fault, how, kind, lasts, options in (
            ("head ahead", "the node lies: head 500 ahead", "proxy for 8 s", "head", 8, {"offset": 500}),
            ("head behind", "the node lies: head 3 behind", "proxy for 8 s", "head", 8, {"offset": -3}),
            ("logs dropped", "the node leaves out all logs", "proxy, all the time", "logs_drop", None, {}),
            (
                "logs capped",
                "the node shows one log at a time",
                "proxy, all the time",
                "logs_cap",
                None,
                {"offset": 1},
            ),
            (
                "time-outs",
                "the node is too slow to be waited for",
                "proxy delays 9 s × 6",
                "delay",
                None,
                {"method": "eth_getLogs", "seconds": 9.0, "times": 6},
            ),
        )
    ),
    _money(
        "switched mid-window",
        "logs come from a node of another chain for 8 s",
        "proxy asks another anvil",
        during=money.switched,
        faulty=True,
    ),
    _money(
        "two monitors",
        "two workers, two signers, two beats",
        "second set of processes",
        during=money.twins("worker", "signer", "beat"),
    ),
    *(
        _money(
            f"clock {word}",
            f"a second worker's machine has a clock {seconds} s off",
            "second worker, its system clock turned; ahead by more than 30 s it hears no ring at all",
            during=money.twins("worker", skew_seconds=seconds),
            check=money.clock_was_wrong,
        )
        for word, seconds in (("ahead", 25), ("far ahead", 300), ("behind", -300))
    ),
]


def all_cases() -> list[Case]:
    return [*OTHERS, *MONEY, *kill_cases()]
