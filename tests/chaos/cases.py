"""Every fault, how it is injected, and what must hold afterwards."""

import ast
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings

from apps.core import work
from tests.chaos import faults, money_faults
from tests.chaos.case import Case
from tests.chaos.money_cases import MONEY
from tests.chaos.plan_cases import OTHERS
from tests.chaos.world import World
from tests.support.stack import Stack, wait_until

_ENGINE = ("claimed", "before_commit", "after_commit")

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
    **dict.fromkeys(
        ("accounts.close.erased", "accounts.close.before_commit"),
        "a person's call (tests/accounts/me/test_closing.py)",
    ),
    **dict.fromkeys(
        (
            *(f"accounts.export.{place}" for place in ("written", "kept", "ready")),
            "work.accounts.export.claimed",
            *(f"work.accounts.export_delete.{place}" for place in _ENGINE),
        ),
        "nobody asks for an export; killed there in tests/accounts/me/test_exports.py",
    ),
    **dict.fromkeys(
        ("launch.invite.queued", *(f"work.launch.invite.{place}" for place in _ENGINE)),
        "nobody is invited; killed there in tests/launch/test_invitations.py",
    ),
    **dict.fromkeys(
        ("mail.send.taken", "mail.send.noted", "work.mail.send.claimed"),
        "no mail here leaves by SMTP or HTTP, and none is urgent; killed there in tests/mail/test_kills.py",
    ),
    "notifications.funds.before_commit": "once a day for everybody (tests/notifications/test_funds.py)",
    **dict.fromkeys(
        (f"work.notifications.digest.{place}" for place in _ENGINE),
        "nobody chose digests; the engine's own places (tests/core/test_work.py)",
    ),
    "work.core.probe.claimed": "the no-op kind has no work in a case",
    "work.core.probe.before_commit": "the no-op kind has no work in a case",
    "work.core.probe.after_commit": "the no-op kind has no work in a case",
}


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
        wait_until(lambda: bool(faults.sent(world)), seconds=60, what="a swap on its way")
        stack.failpoint_release(name)
        wait_until(lambda: stack.fired(name), seconds=30, what=f"death at {name}")

    return during


def kill_cases() -> list[Case]:
    """One case per failpoint: the process that passes it dies there by SIGKILL, with its whole group.

    All failpoints are armed in all processes and held; a case releases its own. So a case costs no start but that of
    the process that died.
    """
    names = sorted(failpoint_names() - set(NOT_HERE) - {faults.CREDIT_FAILPOINT})
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
                    faults.reorg
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
    asked = name.startswith("deposits.rescan.")
    late = ".scan." in name or ".final." in name or rechecked or asked
    during: money_faults.During | None = None
    if asked:
        during = money_faults.rescanned(name)
    elif rechecked:
        during = money_faults.sweep_forked(6, gone=True, name=name)
    elif forked:
        during = money_faults.credit_forked(6, name=name)
    elif late:
        during = money_faults.released(name)
    elif name.startswith("treasury.reserves."):
        during = money_faults.reserves_checked
    return Case(
        name=f"kill {name}",
        fault=f"worker dies at {name}",
        how="SIGKILL to the process group, restarted",
        failpoints={"worker": armed, "signer": armed},
        fires=name,
        late=forked or late,
        arm=money_faults.mining_held if forked else None,
        during=during,
        money=True,
    )


def all_cases() -> list[Case]:
    return [*OTHERS, *MONEY, *kill_cases()]
