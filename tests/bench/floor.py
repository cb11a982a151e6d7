"""The floor of the main job: the rows that it leaves behind, written by bare SQL into the same tables.

Same schema, constraints and triggers; nothing is read, decided, claimed or asked of a chain: per table one COPY (the
ledger's in two parts, holds and purchases), one UPDATE of the plans, one upsert of the event heads, one commit. The
rows are rendered before the clock starts; the plans, people and balances are as many as those of the other side.
"""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.core import bulk, clock
from apps.core.ids import uuid7_many
from apps.ledger.domain import AccountKey, AccountKind
from apps.ledger.models import Account
from apps.ledger.services import accounts_open
from tests.bench.world import AMOUNT_UNITS, World

# Where the tokens of the floor's people are said to lie: no wallet of the platform.
CUSTODY = "0x" + "f1" * 20
RECEIVED_UNITS = 10**9

Rows = dict[str, list[Any]]


def seconds(world: World, plan_ids: list[UUID], *, batch_decisions: list[Any]) -> float:
    """Write everything of one run; answers how long it took, rendering not counted."""
    batches, slots, ledger, events, heads = _render(world, plan_ids, batch_decisions)
    following = clock.now() + timedelta(days=1)
    plans: dict[str, tuple[str, list[Any]]] = {
        "next_number": ("int", [2] * len(plan_ids)),
        "run_after": ("timestamptz", [following] * len(plan_ids)),
        "committed_units": ("numeric", slots["amount_units"]),
    }
    copies = [
        _copy_text("plans_batch", batches),
        _copy_text("plans_slot", slots),
        *(_copy_text(table, rows) for table, rows in ledger),
        _copy_text("events_event", events),
    ]
    started = time.perf_counter()
    with transaction.atomic(), connection.cursor() as cursor:
        for statement, text in copies:
            with cursor.copy(statement) as copy:
                copy.write(text)
        cursor.execute(
            "INSERT INTO events_eventhead AS head (id, subject_type, subject_id, sequence)"
            " SELECT *, 1 FROM unnest(%s::uuid[], %s::text[], %s::uuid[]) ON CONFLICT (subject_type, subject_id)"
            " DO UPDATE SET sequence = head.sequence + 1",
            heads,
        )
        bulk.update("plans_plan", plan_ids, plans)
    return time.perf_counter() - started


def _copy_text(table: str, columns: Rows) -> tuple[str, str]:
    lines = ("\t".join(map(_field, row)) for row in zip(*columns.values(), strict=True))
    return f"COPY {table} ({', '.join(columns)}) FROM STDIN", "\n".join(lines) + "\n"


def _field(value: Any) -> str:
    return str(value).replace("\\", "\\\\")


def _render(
    world: World, plan_ids: list[UUID], batch_decisions: list[Any]
) -> tuple[Rows, Rows, list[tuple[str, Rows]], Rows, list[str]]:
    now, count = clock.now(), len(plan_ids)
    at = now.isoformat()
    ids = uuid7_many(2 * count + len(world.markets), now)
    slot_ids, event_ids, batch_ids = ids[:count], ids[count : 2 * count], ids[2 * count :]
    markets = [world.market_of(number) for number in range(count)]
    amounts = [AMOUNT_UNITS[market.sold_asset.code] for market in markets]
    fees = [units // 200 for units in amounts]
    swaps = [units - fee for units, fee in zip(amounts, fees, strict=True)]
    batch_of = {market.pk: batch_id for market, batch_id in zip(world.markets, batch_ids, strict=True)}
    batches: Rows = {
        "id": batch_ids,
        "market_id": [market.pk for market in world.markets],
        "state": ["settled"] * len(batch_ids),
        "slot_count": [count // len(batch_ids)] * len(batch_ids),
        "amount_in_units": [count * 10**6] * len(batch_ids),
        "try_number": [1] * len(batch_ids),
        "filled_in_units": [count * 10**6] * len(batch_ids),
        "filled_out_units": [count * RECEIVED_UNITS] * len(batch_ids),
        "decision": [json.dumps(decision) for decision in batch_decisions[: len(batch_ids)]],
        "settled_at": [at] * len(batch_ids),
        "run_after": [at] * len(batch_ids),
        "created_at": [at] * len(batch_ids),
    }
    slots: Rows = {
        "id": slot_ids,
        "plan_id": plan_ids,
        "number": [1] * count,
        "owner_id": world.owners,
        "market_id": [market.pk for market in markets],
        "scheduled_at": [at] * count,
        "state": ["settled"] * count,
        "reason": ["filled"] * count,
        "amount_units": amounts,
        "fee_units": fees,
        "swap_units": swaps,
        "received_units": [RECEIVED_UNITS] * count,
        "max_slippage_bps": [200] * count,
        "batch_id": [batch_of[market.pk] for market in markets],
        "decision": [
            json.dumps(
                {
                    "plan_version": 1,
                    "fee_tier": "standard",
                    "fee_units": str(fee),
                    "available_units": str(units * 9),
                }
            )
            for fee, units in zip(fees, amounts, strict=True)
        ],
        "closed_at": [at] * count,
        "run_after": [at] * count,
        "created_at": [at] * count,
    }
    events: Rows = {
        "id": event_ids,
        "topic": ["execution.settled"] * count,
        "subject_type": ["person"] * count,
        "subject_id": world.owners,
        # The floor's people may have had earlier events; their number does not matter to the table.
        "sequence": [1] * count,
        "object_type": ["slot"] * count,
        "object_id": slot_ids,
        "payload": [
            json.dumps(
                {
                    "plan_id": str(plan_id),
                    "plan_name": "bench",
                    "slot_id": str(slot_id),
                    "number": 1,
                    "scheduled_at": at,
                    "sold_asset": market.sold_asset.code,
                    "bought_asset": market.bought_asset.code,
                    "amount_units": str(units),
                    "fee_units": str(fee),
                    "swapped_units": str(swap),
                    "received_units": str(RECEIVED_UNITS),
                    "transaction_hash": "0x" + "ab" * 32,
                }
            )
            for plan_id, slot_id, market, units, fee, swap in zip(
                plan_ids, slot_ids, markets, amounts, fees, swaps, strict=True
            )
        ],
        "occurred_at": [at] * count,
    }
    heads = [
        bulk.uuids(uuid7_many(count, now)),
        bulk.array(["person"] * count),
        bulk.uuids(world.owners),
    ]
    return batches, slots, _ledger(world, slot_ids, amounts, fees), events, heads


def _ledger(
    world: World, slot_ids: list[UUID], amounts: list[int], fees: list[int]
) -> list[tuple[str, Rows]]:
    """Holds, then purchases: journals and entries of each, balances worked out beforehand."""
    now, count = clock.now(), len(slot_ids)
    keys = {}
    for number, owner_id in enumerate(world.owners):
        market = world.market_of(number)
        keys[number] = [
            AccountKey(AccountKind.AVAILABLE, market.sold_asset_id, owner_id),
            AccountKey(AccountKind.HELD, market.sold_asset_id, owner_id),
            AccountKey(AccountKind.FEES, market.sold_asset_id),
            AccountKey(AccountKind.CUSTODY, market.sold_asset_id, ref=CUSTODY),
            AccountKey(AccountKind.AVAILABLE, market.bought_asset_id, owner_id),
            AccountKey(AccountKind.CUSTODY, market.bought_asset_id, ref=CUSTODY),
        ]
    accounts = accounts_open(keys=[key for some in keys.values() for key in some])
    balances = dict(Account.objects.filter(pk__any_of=accounts.values()).values_list("pk", "balance_units"))
    ids = iter(uuid7_many(9 * count, now))
    posted: list[tuple[str, Rows]] = []
    for kind in ("hold", "settle"):
        journals: Rows = {
            name: [] for name in ("id", "kind", "reference", "fingerprint", "metadata", "posted_at")
        }
        entries: Rows = {
            name: []
            for name in ("id", "journal_id", "account_id", "asset_id", "amount_units", "balance_after_units")
        }
        for number, slot_id in enumerate(slot_ids):
            journal_id = next(ids)
            row = (journal_id, "hold" if kind == "hold" else "purchase", f"slot:{slot_id}:{kind}")
            for name, value in zip(journals, (*row, "\\x" + "00" * 32, "{}", now.isoformat()), strict=True):
                journals[name].append(value)
            for key, units in _moves(kind, keys[number], amounts[number], fees[number]):
                account_id = accounts[key]
                balances[account_id] += units
                entry = (next(ids), journal_id, account_id, key.asset_id, units, balances[account_id])
                for name, value in zip(entries, entry, strict=True):
                    entries[name].append(value)
        posted += [("ledger_journal", journals), ("ledger_entry", entries)]
    return posted


def _moves(kind: str, keys: list[AccountKey], units: int, fee: int) -> Iterator[tuple[AccountKey, int]]:
    available, held, fees, sold_custody, bought, bought_custody = keys
    if kind == "hold":
        yield from ((available, -units), (held, units))
        return
    yield from ((held, -units), (fees, fee), (sold_custody, units - fee))
    yield from ((bought, RECEIVED_UNITS), (bought_custody, -RECEIVED_UNITS))
