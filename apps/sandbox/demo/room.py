"""The control room: what the database says of plans, slots, batches and transactions, for pace and for the screen."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import connection

from apps.core import clock


@dataclass(frozen=True)
class PlanLine:
    """A plan's slots by where they are, and its last outcome."""

    state: str
    next_run_at: datetime
    waiting: int = 0
    on_chain: int = 0
    settled: int = 0
    skipped: int = 0
    last: str = ""


@dataclass(frozen=True)
class Room:
    """One look. Gas is in wei and counts every final or mined transaction."""

    at: datetime
    plans: dict[UUID, PlanLine] = field(default_factory=dict)
    transactions: dict[str, int] = field(default_factory=dict)
    swaps: int = 0
    gas_units: int = 0

    @property
    def settled(self) -> int:
        return sum(plan.settled for plan in self.plans.values())

    @property
    def skipped(self) -> int:
        return sum(plan.skipped for plan in self.plans.values())

    @property
    def on_chain(self) -> int:
        return sum(plan.on_chain for plan in self.plans.values())


def room_look() -> Room:
    """Everything that the screen shows, in two statements."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.id, p.state, p.run_after,"
            " count(*) FILTER (WHERE s.state IN ('open', 'reserved')),"
            " count(*) FILTER (WHERE s.state = 'batched'),"
            " count(*) FILTER (WHERE s.state = 'settled'),"
            " count(*) FILTER (WHERE s.state IN ('skipped', 'failed')),"
            " coalesce((array_agg(s.reason ORDER BY s.number DESC) FILTER (WHERE s.reason <> ''))[1], '')"
            " FROM plans_plan p LEFT JOIN plans_slot s ON s.plan_id = p.id GROUP BY p.id"
        )
        plans = {row[0]: PlanLine(*row[1:]) for row in cursor}
        cursor.execute(
            "SELECT state, count(*), count(*) FILTER (WHERE purpose = 'swap'),"
            " coalesce(sum(gas_used * effective_gas_price_units), 0) FROM chain_outboundtransaction GROUP BY state"
        )
        rows = cursor.fetchall()
    return Room(
        at=clock.now(),
        plans=plans,
        transactions={row[0]: row[1] for row in rows},
        swaps=sum(row[2] for row in rows if row[0] in {"mined", "confirmed", "reverted"}),
        gas_units=int(sum(row[3] for row in rows)),
    )


@dataclass(frozen=True)
class Unfinished:
    """What keeps time from moving: each a count."""

    due_plans: int
    waiting_slots: int
    pricing: int
    unsent: int
    unmined: int
    unclosed: int
    unfinal: int
    unbooked: int
    uncredited: int
    uncollected: int
    unpaid: int

    @property
    def holds_time(self) -> bool:
        """Work that must be done before time moves: a late slot or an expired deadline would tell another story."""
        return bool(self.due_plans or self.waiting_slots or self.pricing or self.unsent)

    @property
    def anything(self) -> bool:
        moving = self.uncredited or self.uncollected or self.unpaid
        return self.holds_time or bool(self.unclosed or self.unfinal or self.unbooked or moving)


def unfinished_look() -> Unfinished:
    """One statement, made of index probes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT"
            " (SELECT count(*) FROM plans_plan WHERE state = 'active' AND run_after <= %s),"
            " (SELECT count(*) FROM plans_slot WHERE state IN ('open', 'reserved')),"
            " (SELECT count(*) FROM plans_batch WHERE state = 'pricing'),"
            " (SELECT count(*) FROM chain_outboundtransaction WHERE state IN ('queued', 'signed')),"
            " (SELECT count(*) FROM chain_outboundtransaction WHERE state = 'sent'),"
            " (SELECT count(*) FROM plans_slot WHERE closed_at IS NULL),"
            " (SELECT count(*) FROM chain_outboundtransaction WHERE finalized_at IS NULL),"
            " (SELECT count(*) FROM chain_outboundtransaction WHERE gas_used > 0 AND gas_booked_at IS NULL),"
            " (SELECT count(*) FROM deposits_deposit WHERE state IN ('seen', 'confirming')),"
            " (SELECT count(*) FROM deposits_sweep WHERE state IN ('planned', 'funding', 'sweeping')),"
            " (SELECT count(*) FROM withdrawals_withdrawal WHERE closed_at IS NULL)",
            [clock.now()],
        )
        return Unfinished(*cursor.fetchone())


def read_look() -> int:
    """The block up to which headers are held and deposits looked for; -1 before the first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(min(least(network.watched_block, scan.next_block - 1)), -1)"
            " FROM chain_network AS network JOIN deposits_scan AS scan ON scan.network_id = network.id"
        )
        return int(cursor.fetchone()[0])


def trouble_look() -> list[str]:
    """The last errors on rows that are not done: what to say when something does not move."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 'plan ' || id, state, last_error FROM plans_plan WHERE last_error <> ''"
            " UNION ALL SELECT 'slot ' || id, state, last_error FROM plans_slot WHERE last_error <> ''"
            " UNION ALL SELECT 'batch ' || id, state, last_error FROM plans_batch WHERE last_error <> ''"
            " UNION ALL SELECT purpose || ' ' || id, state, last_error || reason FROM chain_outboundtransaction"
            "   WHERE last_error <> '' AND finalized_at IS NULL"
            " UNION ALL SELECT 'deposit ' || id, state, last_error FROM deposits_deposit WHERE last_error <> ''"
            " UNION ALL SELECT 'sweep ' || id, state, last_error || reason FROM deposits_sweep"
            "   WHERE last_error || reason <> ''"
            " UNION ALL SELECT 'withdrawal ' || id, state, last_error || wait_reason || detail"
            "   FROM withdrawals_withdrawal WHERE last_error || wait_reason || detail <> '' LIMIT 12"
        )
        return [f"{row[0]} ({row[1]}): {row[2]}" for row in cursor]
