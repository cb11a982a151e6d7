"""The cases in which money comes in, is collected, and goes out."""

from typing import Any

from tests.chaos import faults, money_faults
from tests.chaos.case import SAME, Case


def _money(name: str, fault: str, how: str, invariant: str = SAME, **options: Any) -> Case:
    return Case(f"money {name}", fault, how, invariant, money=True, **options)


MONEY = [
    _money("undisturbed", "none", "what the others are compared with"),
    _money(
        "reorg 1 during credit",
        "a deposit's block is taken back before its credit",
        "anvil_reorg, included again later",
        arm=money_faults.mining_held,
        during=money_faults.credit_forked(1),
        check=money_faults.was("deposit.orphaned"),
    ),
    _money(
        "reorg 6 during credit",
        "credited deposits' blocks are taken back",
        "anvil_reorg, included again later",
        arm=money_faults.mining_held,
        during=money_faults.credit_forked(6),
        check=money_faults.was("deposit.reversed"),
    ),
    _money(
        "reorg beyond the limit during credit",
        "a fork deeper than the network's limit",
        "reorg_limit 3, anvil_reorg of 6, included again, resumed by an operator",
        arm=money_faults.mining_held,
        during=money_faults.credit_forked(6, limit=3),
        check=money_faults.was("network.halted"),
    ),
    _money(
        "reorg 1 during a sweep",
        "a mined sweep's block is taken back at depth 1",
        "anvil_reorg",
        during=money_faults.sweep_forked(1),
        check=money_faults.was("transaction.reorged"),
    ),
    _money(
        "reorg 6 during a sweep",
        "final sweeps' blocks are taken back: the network halts",
        "anvil_reorg of 6 with the same transactions, resumed by an operator",
        during=money_faults.sweep_forked(6),
        check=money_faults.found_again(gone=False),
    ),
    _money(
        "reorg 6 without our transactions",
        "final transactions are on no chain any more: the network halts",
        "anvil_reorg of 6 without what we sent, resumed by an operator",
        "each is sent again once and booked once; the books of the undisturbed run, all invariants",
        during=money_faults.sweep_forked(6, gone=True),
        check=money_faults.found_again(gone=True),
    ),
    *(
        _money(
            name,
            fault,
            how,
            arm=faults.fault_set(kind, **options),
            during=money_faults.faulty(lasts=lasts),
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
        during=money_faults.switched,
        faulty=True,
    ),
    _money(
        "two monitors",
        "two workers, two signers, two beats",
        "second set of processes",
        during=money_faults.twins("worker", "signer", "beat"),
    ),
    *(
        _money(
            f"clock {word}",
            f"a second worker's machine has a clock {seconds} s off",
            "second worker, its system clock turned; ahead by more than ten minutes it would hear no ring at all",
            during=money_faults.twins("worker", skew_seconds=seconds),
            check=money_faults.clock_was_wrong,
        )
        for word, seconds in (("ahead", 25), ("far ahead", 300), ("behind", -300))
    ),
]
