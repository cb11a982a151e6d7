"""Every fault, how it is injected, and what must hold afterwards."""

import ast
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from celery import current_app
from django.conf import settings
from django.db import connection

from apps.chain.models import OutboundTransaction
from apps.core import work
from apps.events.models import Event
from apps.plans.models import Plan, Slot
from apps.sandbox.runtime.processes import Child
from tests.chaos.world import World
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
    "treasury.credit.before_commit": "credits by hand are made by an operator's command, not by a role",
    "work.core.probe.claimed": "the no-op kind has no work in a case",
    "work.core.probe.before_commit": "the no-op kind has no work in a case",
    "work.core.probe.after_commit": "the no-op kind has no work in a case",
}


@dataclass(frozen=True)
class Case:
    """One row of the table. `during` runs once the plans are due; `but` plans do not end in a slot."""

    name: str
    fault: str
    how: str
    invariant: str = SAME
    failpoints: dict[str, str] = field(default_factory=dict)
    fires: str = ""
    during: Callable[[Stack, World, random.Random], None] | None = None
    arm: Callable[[World], dict[str, str]] | None = None
    check: Callable[[Stack, World], list[str]] | None = None
    but: int = 0
    smoke: bool = False


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


def kill_cases() -> list[Case]:
    """One case per failpoint: the process that passes it dies there by SIGKILL, with its whole group."""
    cases = []
    for name in sorted(failpoint_names() - set(NOT_HERE)):
        role = "signer" if ".sign." in name else "worker"
        cases.append(
            Case(
                name=f"kill {name}",
                fault=f"{role} dies at {name}",
                how="SIGKILL to the process group, restarted",
                failpoints={role: f"{name}=killgroup@1"},
                fires=name,
                during=_reorg if name.startswith("chain.rebroadcast") else None,
                smoke=name in {"plans.settle.before_commit", "chain.send.after_rpc"},
            )
        )
    return cases


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


def _postgres_restart(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.sandbox.postgres is not None
    wait_until(lambda: _slots(world, "reserved", "batched", "settled"), seconds=30, what="slots on their way")
    connection.close()
    stack.sandbox.postgres.stop_immediate()
    threading.Event().wait(chance.uniform(0.2, 1.0))
    stack.sandbox.postgres.start()


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
    wait_until(
        lambda: (
            not Slot.objects.filter(plan_id__in=world.plan_ids, closed_at__isnull=True).exists()
            and Slot.objects.filter(plan_id__in=world.plan_ids).count() == len(world.plans)
        ),
        seconds=90,
        what="settled by twins",
    )
    for twin in children:
        twin.stop(grace_seconds=14)


def _redeliver(stack: Stack, world: World, chance: random.Random) -> None:
    for _ in range(5):
        for name, queue in QUEUE_OF.items():
            current_app.send_task(name, queue=queue)
        threading.Event().wait(chance.uniform(0.1, 0.6))


def _fault(kind: str, **options: object) -> Callable[[Stack, World, random.Random], None]:
    """A fault of the RPC endpoint that ends by itself after `times` answers."""

    def inject(stack: Stack, world: World, chance: random.Random) -> None:
        assert stack.proxy is not None
        stack.proxy.fault(kind, **options)

    return inject


def _refuse(stack: Stack, world: World, chance: random.Random) -> None:
    assert stack.proxy is not None
    stack.proxy.stop()
    threading.Event().wait(6)
    stack.proxy.start()


def _sent(world: World) -> list[OutboundTransaction]:
    return list(
        OutboundTransaction.objects.filter(
            state="sent", purpose="swap", batch__slots__plan_id__in=world.plan_ids
        ).distinct()
    )


def _hold_mining(stack: Stack, world: World) -> list[OutboundTransaction]:
    """Stop blocks and wait until every swap of the case is in the mempool and nowhere else."""
    assert stack.sandbox.anvil is not None
    stack.sandbox.anvil.mining_manual()
    wait_until(lambda: len(_sent(world)) == 2, seconds=40, what="both swaps sent")
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
    stack.sandbox.anvil.base_fee_set(wei=int(fee * 1.1))
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


def _poison_plan(world: World) -> dict[str, str]:
    Plan.objects.filter(pk=world.plans[4].pk).update(zone="Nowhere/Never")
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


def _lethal_plan(world: World) -> dict[str, str]:
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
    Case(
        "postgres restarted",
        "PostgreSQL stops at once and comes back",
        "pg_ctl -m immediate",
        during=_postgres_restart,
    ),
    Case("random kills", "worker, signer, beat die at any time", "SIGKILL × 5, seeded", during=_random_kills),
    Case("everything twice", "two workers, two signers, two beats", "second set of processes", during=_twice),
    Case("redelivered", "every task delivered five times", "published 5×", during=_redeliver),
    Case(
        "poison row",
        "a plan whose schedule cannot be computed",
        "zone overwritten by SQL",
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
    ),
    Case(
        "rpc late",
        "the node answers late",
        "proxy delays 2 s × 15",
        during=_fault("delay", seconds=2.0, times=15),
    ),
    Case("rpc refuses", "the node is away for 6 s", "proxy refuses connections", during=_refuse),
    Case(
        "rpc 429", "the node is rate limited", "HTTP 429 × 30", during=_fault("status", status=429, times=30)
    ),
    Case("rpc garbage", "the node answers no JSON", "proxy × 10", during=_fault("garbage", times=10)),
    Case(
        "rpc head ahead",
        "the node lies: head 500 ahead",
        "proxy × 20",
        during=_fault("head", offset=500, times=20),
    ),
    Case(
        "rpc head behind",
        "the node lies: head 3 behind",
        "proxy × 20",
        during=_fault("head", offset=-3, times=20),
    ),
    Case(
        "rpc null receipts",
        "the node has forgotten receipts",
        "null × 20",
        during=_fault("null", method="eth_getTransactionReceipt", times=20),
    ),
    Case("dropped", "swaps vanish from the mempool", "anvil_dropTransaction", during=_dropped),
    Case(
        "stuck",
        "the base fee rises above what was bid",
        "base fee × 1.1 of the bid",
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


def all_cases() -> list[Case]:
    return [*OTHERS, *kill_cases()]
