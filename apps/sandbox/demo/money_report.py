"""Where everybody's money came from and where it went, to the last unit: books against chain."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import connection
from rich.console import Console

from apps.core.api.amounts import amount_format
from apps.sandbox.demo.money import Purse
from apps.sandbox.demo.report import Checks, Told, decimals_read, journal_units, table_make
from apps.sandbox.demo.screen import ether


@dataclass(frozen=True)
class _Plans:
    """What a person's settled slots came to, in base units per asset. Fees are part of what was spent."""

    spent: Counter[str]
    fees: Counter[str]
    bought: Counter[str]


def in_report(console: Console, purses: Sequence[Purse], told: Sequence[Told], checks: Checks) -> None:
    """What each person sent on chain, that it was credited once, and what their plans made of it."""
    table = table_make(
        "Money in: seen on chain, spent by plans",
        "Person",
        "Asset",
        "Deposited",
        "Spent",
        "of it fees",
        "Bought",
    )
    decimals = decimals_read()
    for purse in purses:
        name, plans = purse.person.name, _plans(purse, told)
        found = {
            (row["transaction_hash"], row["asset"]): int(row["credited_units"])
            for row in purse.person.deposits()
        }
        checks.add(found == purse.sent, f"{name}'s deposits are those sent on chain, to the unit, each once")
        for code in sorted(purse.sent_units | plans.bought):
            units = (purse.sent_units[code], plans.spent[code], plans.fees[code], plans.bought[code])
            table.add_row(name, code, *(_amount(one, decimals[code]) for one in units))
    console.print(table)
    checks.add(
        _count("SELECT count(*) FROM ledger_journal WHERE kind = 'credit_by_hand'") == 0,
        "nothing was credited by hand: all money came as deposits on chain",
    )


def out_report(console: Console, purses: Sequence[Purse], told: Sequence[Told], checks: Checks) -> None:
    """What arrived outside, by the chain; what is left, by the API and the journal; and that it adds up."""
    table = table_make(
        "Money out: withdrawn to wallets outside",
        "Person",
        "Asset",
        "Arrived",
        "Fee",
        "Left",
        "Books and chain",
    )
    decimals = decimals_read()
    for purse in purses:
        name, plans = purse.person.name, _plans(purse, told)
        withdrawals = {row["asset"]: row for row in purse.person.withdrawals()}
        balances = {row["asset"]: row for row in purse.person.balances()}
        journal = journal_units(purse.person.email)
        for code in sorted(purse.sent_units | plans.bought):
            row, balance = withdrawals[code], balances[code]
            sent, fee = int(row["sent_units"]), int(row["fee_charged_units"])
            arrived, left = purse.receiver.balance(symbol=code), int(balance["available_units"])
            had = purse.sent_units[code] - plans.spent[code] + plans.bought[code]
            whole = row["state"] == "confirmed" and 0 <= fee <= int(row["fee_units"])
            proved = (
                whole
                and arrived == sent
                and had == arrived + fee + left
                and left == journal.get(code, 0)
                and int(balance["held_units"]) == 0
            )
            checks.add(
                proved, f"{name}'s {code}: deposited - spent + bought = arrived + fee + left, to the unit"
            )
            amounts = (_amount(one, decimals[code]) for one in (arrived, fee, left))
            table.add_row(name, code, *amounts, "equal" if proved else "DIFFER")
        checks.add(
            len(withdrawals) == len(purse.asked) == _payouts(purse),
            f"{name}'s {len(purse.asked)} withdrawals were sent once each",
        )
    console.print(table)


def sweeps_report(console: Console, checks: Checks) -> None:
    """What was collected from deposit addresses, and that what was not lies there still, by the books."""
    table = table_make(
        "Deposits collected to the treasury", "Asset", "Credited", "Sweeps", "Collected", "Left there"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT asset.code, asset.decimals,"
            " coalesce((SELECT sum(credited_units) FROM deposits_deposit WHERE asset_id = asset.id), 0),"
            " (SELECT count(*) FROM deposits_sweep WHERE asset_id = asset.id AND state = 'done'),"
            " coalesce((SELECT sum(units) FROM deposits_sweep WHERE asset_id = asset.id AND state = 'done'), 0),"
            " coalesce((SELECT sum(units) FROM deposits_holding WHERE asset_id = asset.id), 0),"
            " EXISTS (SELECT FROM chain_network WHERE native_asset_id = asset.id)"
            " FROM core_asset AS asset ORDER BY asset.code"
        )
        rows = cursor.fetchall()
    for code, decimals, credited, sweeps, collected, left, native in rows:
        amounts = [_amount(int(units), decimals) for units in (credited, collected, left)]
        table.add_row(code, amounts[0], str(sweeps), *amounts[1:])
        # Native coin comes and goes as gas money too; the invariants follow that.
        if not native:
            checks.add(credited == collected + left, f"{code}: what was credited is collected, or lies there")
    console.print(table)
    gas = ", ".join(f"{what} ({count}) {ether(wei)}" for what, count, wei in _gas())
    console.print(f"Gas in ETH: {gas}.\n")
    unfinished = "SELECT count(*) FROM deposits_sweep WHERE state <> 'done'"
    checks.add(_count(unfinished) == 0, "every sweep landed")


def reserves_report(console: Console, reserves: Sequence[dict[str, Any]], checks: Checks) -> None:
    """What anybody may read at `GET /api/v1/platform/reserves`."""
    table = table_make(
        "GET /api/v1/platform/reserves", "Asset", "Owed to people", "On chain", "Difference", "Verdict"
    )
    for row in reserves:
        table.add_row(row["asset"], row["liabilities"], row["on_chain"], row["difference"], row["verdict"])
        matched = row["verdict"] == "matched" and Decimal(row["difference"]) == 0
        covered = Decimal(row["on_chain"]) >= Decimal(row["liabilities"])
        checks.add(matched and covered, f"reserves of {row['asset']}: matched, and more than is owed")
    console.print(table)


def _plans(purse: Purse, told: Sequence[Told]) -> _Plans:
    plans = _Plans(Counter(), Counter(), Counter())
    for one in told:
        for slot in one.slots:
            if one.spec.owner == purse.person.name and slot["state"] == "settled":
                plans.spent[one.spec.sold] += int(slot["amount_units"])
                plans.fees[one.spec.sold] += int(slot["fee_units"])
                plans.bought[one.spec.bought] += int(slot["received_units"])
    return plans


def _payouts(purse: Purse) -> int:
    """How many transactions of ours paid this person's withdrawals and succeeded."""
    return _count(
        "SELECT count(*) FROM chain_outboundtransaction WHERE purpose = 'withdrawal' AND state = 'confirmed'"
        " AND reference IN (SELECT 'withdrawal:' || w.id FROM withdrawals_withdrawal w"
        " JOIN accounts_user u ON u.id = w.user_id WHERE u.email = %s)",
        purse.person.email,
    )


def _gas() -> list[tuple[str, int, int]]:
    """How many transactions moved money in and out, and what they burned in wei."""
    names = {"gas_top_up": "top-ups", "sweep": "sweeps", "withdrawal": "withdrawals"}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT purpose, count(*), sum(gas_used * effective_gas_price_units) FROM chain_outboundtransaction"
            " WHERE gas_used > 0 AND purpose = ANY (%s) GROUP BY purpose ORDER BY purpose",
            [list(names)],
        )
        return [(names[purpose], count, int(wei)) for purpose, count, wei in cursor]


def _amount(units: int, decimals: int) -> str:
    return amount_format(units, decimals=decimals) if units else ""


def _count(statement: str, *parameters: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(parameters))
        return int(cursor.fetchone()[0])
