"""What disturbs the world of deposits, sweeps and withdrawals, and how it shows that it did."""

import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection

from apps.chain.models import Network, OutboundTransaction, Recheck, TransactionAttempt
from apps.deposits.models import Rescan
from apps.deposits.rescans import rescan_request
from apps.events.models import Event
from apps.sandbox.runtime.anvil import Anvil
from apps.sandbox.runtime.processes import Child
from tests.chaos.money import DEPOSITED, REORG_LIMIT, Money, money_ask, money_state, money_wait
from tests.chaos.world import World, networks_resume
from tests.support.stack import Stack, wait_until
from workers.task import QUEUE_OF

During = Callable[[Stack, Any, random.Random], None]


def told(world: Money, topic: str) -> bool:
    connection.close_if_unusable_or_obsolete()
    return Event.objects.filter(topic=topic, occurred_at__gte=world.since).exists()


def found_again(*, gone: bool) -> Callable[[Stack, Any], list[str]]:
    """Final transactions were looked for after the fork; with `gone`, one was nowhere and was sent again."""

    def check(stack: Stack, world: Money) -> list[str]:
        rows = Recheck.objects.filter(transaction__created_at__gte=world.since)
        wrong = [f"{row}: {row.state}" for row in rows if row.state != "closed"]
        if not rows or gone != rows.filter(reopened_at__isnull=False).exists():
            wrong.append(f"the fault was not met: {list(rows.values('state', 'reopened_at'))}")
        return wrong

    return check


def was(topic: str) -> Callable[[Stack, Any], list[str]]:
    def check(stack: Stack, world: Money) -> list[str]:
        return [] if told(world, topic) else [f"the fault was not met: no {topic}"]

    return check


def mining_held(stack: Stack, world: World) -> dict[str, str]:
    """No block but those of the deposits."""
    _anvil(stack).mining_manual()
    return {}


def released(name: str) -> During:
    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        stack.failpoint_release(name)

    return during


def rescanned(name: str) -> During:
    """An operator has the blocks of the deposits read again once they are credited."""

    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        wait_until(world.credited, seconds=60, what=lambda: f"credited; now {money_state(world)}")
        stack.failpoint_release(name)
        network = Network.objects.get()
        first = min(row.block_number for row in world.deposits())
        asked = rescan_request(network_id=network.pk, from_block=first, reason="chaos")

        def done() -> bool:
            connection.close_if_unusable_or_obsolete()
            return Rescan.objects.filter(pk=asked.pk, state="done").exists()

        wait_until(done, seconds=90, what="the blocks read again")

    return during


def reserves_checked(stack: Stack, world: Money, chance: random.Random) -> None:
    current_app.send_task("treasury.reserves", queue=QUEUE_OF["treasury.reserves"])


def credit_forked(depth: int, *, name: str = "", limit: int = REORG_LIMIT) -> During:
    """The deposits' blocks go when they are seen (depth 1) or credited; the same transactions come in again later."""

    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        anvil = _anvil(stack)
        if depth > 1:
            anvil.mine(blocks=2)
            wait_until(world.credited, seconds=60, what=lambda: f"credited; now {money_state(world)}")
        else:
            wait_until(lambda: len(world.deposits()) == len(DEPOSITED), seconds=60, what="all deposits seen")
        Network.objects.update(reorg_limit=limit)
        if name:
            stack.failpoint_release(name)
        raws = [raw for raw, _ in _raws(anvil, depth)]
        anvil.reorg(depth=depth)
        if depth > limit:
            _halted(world)
        else:
            gone = "deposit.reversed" if depth > 1 else "deposit.orphaned"
            anvil.mine()
            wait_until(
                lambda: told(world, gone), seconds=60, what=lambda: f"{gone}; now {money_state(world)}"
            )
        for raw in raws:
            _send(anvil, raw)
        anvil.mining_interval(seconds=1)
        if depth > limit:
            threading.Event().wait(2)
            _resume(world)

    return during


def sweep_forked(depth: int, *, gone: bool = False, name: str = "") -> During:
    """A sweep's block goes while it is not final (depth 1), or when it is.

    Then the same transactions are in the blocks that come instead; with `gone` only those that are not ours.
    """

    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        anvil = _anvil(stack)
        wait_until(world.credited, seconds=60, what=lambda: f"credited; now {money_state(world)}")
        anvil.mining_manual()
        money_ask(world)

        def reached(*states: str) -> bool:
            connection.close_if_unusable_or_obsolete()
            return any(
                row.transaction and row.transaction.state in states for row in world.sweeps(state="sweeping")
            )

        def sent() -> bool:
            if not reached("sent"):
                anvil.mine()
                threading.Event().wait(0.7)
            return reached("sent")

        wait_until(sent, seconds=90, what=lambda: f"a sweep in the mempool; now {money_state(world)}")
        anvil.mine()
        wait_until(lambda: reached("mined", "confirmed"), seconds=60, what="a sweep mined")
        if depth == 1:
            anvil.reorg(depth=1)
        else:
            anvil.mine()
            wait_until(
                # One that the fork will take: an earlier one may be final below it.
                lambda: OutboundTransaction.objects.filter(
                    purpose="sweep",
                    state="confirmed",
                    created_at__gte=world.since,
                    block_number__gt=anvil.block_number() - depth,
                ).exists(),
                seconds=60,
                what="a sweep final in the blocks that go",
            )
            ours = {
                "0x" + bytes(raw).hex()
                for raw in TransactionAttempt.objects.filter(created_at__gte=world.since).values_list(
                    "raw", flat=True
                )
            }
            raws = _raws(anvil, depth)
            anvil.reorg(depth=depth, transactions=[one for one in raws if not gone or one[0] not in ours])
            _halted(world)
            if name:
                stack.failpoint_release(name)
        anvil.mining_interval(seconds=1)
        if depth > 1:
            threading.Event().wait(2)
            _resume(world)

    return during


def faulty(*, lasts: float | None = None) -> During:
    """The fault that was set before the deposits ends `lasts` seconds after them, or with the case."""

    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        assert stack.proxy is not None
        if lasts is not None:
            threading.Event().wait(lasts)
            stack.proxy.clear()

    return during


def switched(stack: Stack, world: Money, chance: random.Random) -> None:
    """A balancer sends logs' questions to a node of another chain, in the middle of a window."""
    assert stack.proxy is not None
    other = Anvil(stack.directory / "elsewhere")
    other.directory.mkdir(parents=True, exist_ok=True)
    other.start()
    try:
        other.mine(blocks=_anvil(stack).block_number() + 5)
        stack.proxy.fault("elsewhere", method="eth_getLogs", upstream=other.url)
        threading.Event().wait(8)
        stack.proxy.clear()
    finally:
        other.stop()


_SKEW = """
from datetime import UTC, datetime, timedelta
import time_machine
time_machine.travel(datetime.now(UTC) + timedelta(seconds={seconds}), tick=True).start()
"""


def twins(*roles: str, skew_seconds: int = 0) -> During:
    """A second set of processes until the case is over; with a skew their machine's clock is wrong."""

    def during(stack: Stack, world: Money, chance: random.Random) -> None:
        directory = stack.directory / "twins"
        directory.mkdir(parents=True, exist_ok=True)
        own = {"HEARTBEAT_DIR": str(directory)}
        if skew_seconds:
            # The machine's clock as Python has it: imported at the start of every process of this twin.
            (directory / "sitecustomize.py").write_text(_SKEW.format(seconds=skew_seconds))
            own["PYTHONPATH"] = str(directory)
        children = [
            Child(
                name=f"{role}-2",
                argv=stack.child(role).argv,
                log=stack.directory / "logs" / f"{role}-2.log",
                environment={**stack.environment(keys=role == "signer"), **own},
                directory=Path(settings.BASE_DIR),
            )
            for role in roles
        ]
        for one in children:
            one.start()
        try:
            if skew_seconds:
                wait_until(
                    lambda: not clock_was_wrong(stack, world), seconds=60, what="the second worker at work"
                )
            money_wait(world)
        finally:
            for one in children:
                one.stop(grace_seconds=14)

    return during


def clock_was_wrong(stack: Stack, world: Money) -> list[str]:
    """The second worker noticed that its machine's clock is wrong, and worked."""
    said = (stack.directory / "logs" / "worker-2.log").read_text()
    return [] if "clock is wrong" in said else ["the fault was not met: its clock was right"]


def _anvil(stack: Stack) -> Anvil:
    assert stack.sandbox.anvil is not None
    return stack.sandbox.anvil


def _raws(anvil: Anvil, depth: int) -> Sequence[tuple[str, int]]:
    """The transactions of the last blocks, each with its place among these."""
    head = anvil.block_number()
    return [
        (anvil.rpc.call("eth_getRawTransactionByHash", one), number - (head - depth + 1))
        for number in range(head - depth + 1, head + 1)
        for one in anvil.block(number)["transactions"]
    ]


def _send(anvil: Anvil, raw: str) -> None:
    try:
        anvil.rpc.call("eth_sendRawTransaction", raw)
    except Exception as error:
        if not any(word in str(error).lower() for word in ("already", "nonce too low")):
            raise


def _halted(world: Money) -> None:
    wait_until(
        lambda: Network.objects.filter(halted_at__isnull=False).exists(),
        seconds=60,
        what=lambda: f"the network halted; now {money_state(world)}",
    )


def _resume(world: Money) -> None:
    """What an operator does once the node shows the chain that stays; final transactions are looked for by then.

    A deposit that had been collected already halts the network once more, until the chain shows it again: from now on
    somebody looks, and resumes.
    """
    networks_resume()
    Network.objects.update(reorg_limit=REORG_LIMIT)
    world.watched_over.set()
