"""What must hold of slots: one outcome each, holds that match them, schedules that move on."""

from django.db import connection

from apps.core.invariants import Finding, invariant

_LIMIT = 20


@invariant("slots have at most one outcome, and final ones exactly one")
def slots_one_outcome() -> Finding:
    """A settled slot has one purchase journal and no release; any other final slot has no purchase journal."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT s.id, s.state, count(j.id) FILTER (WHERE j.kind = 'purchase'),
                   count(j.id) FILTER (WHERE j.kind = 'hold'), count(j.id) FILTER (WHERE j.kind = 'release')
            FROM plans_slot s
            LEFT JOIN ledger_journal j ON j.reference IN (
                'slot:' || s.id || ':settle', 'slot:' || s.id || ':hold', 'slot:' || s.id || ':release')
            GROUP BY s.id, s.state
            HAVING NOT CASE s.state
                WHEN 'settled' THEN count(j.id) FILTER (WHERE j.kind = 'purchase') = 1
                    AND count(j.id) FILTER (WHERE j.kind = 'hold') = 1
                    AND count(j.id) FILTER (WHERE j.kind = 'release') = 0
                WHEN 'open' THEN count(j.id) = 0
                WHEN 'reserved' THEN count(j.id) = 1 AND count(j.id) FILTER (WHERE j.kind = 'hold') = 1
                WHEN 'batched' THEN count(j.id) = 1 AND count(j.id) FILTER (WHERE j.kind = 'hold') = 1
                ELSE count(j.id) FILTER (WHERE j.kind = 'purchase') = 0
                    AND count(j.id) FILTER (WHERE j.kind = 'hold') = count(j.id) FILTER (WHERE j.kind = 'release')
            END
            LIMIT %s
            """,
            [_LIMIT],
        )
        bad = [
            f"slot {row[0]} ({row[1]}): {row[2]} purchases, {row[3]} holds, {row[4]} releases"
            for row in cursor
        ]
        cursor.execute("SELECT count(*), count(*) FILTER (WHERE closed_at IS NOT NULL) FROM plans_slot")
        total, final = cursor.fetchone()
    return Finding(bad, {"slots": total, "final": final})


@invariant("holds match open slots and withdrawals")
def holds_match() -> Finding:
    """Per person and asset: held is the sum of reserved and batched slots and of open withdrawals, to the unit."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH promised AS (
                SELECT s.owner_id, m.sold_asset_id AS asset_id, s.amount_units AS units
                FROM plans_slot s JOIN providers_market m ON m.id = s.market_id
                WHERE s.state IN ('reserved', 'batched')
                UNION ALL
                SELECT user_id, asset_id, amount_units FROM withdrawals_withdrawal WHERE closed_at IS NULL
            ), wanted AS (
                SELECT owner_id, asset_id, sum(units) AS units FROM promised GROUP BY 1, 2
            ), held AS (
                SELECT owner_id, asset_id, balance_units AS units FROM ledger_account WHERE kind = 'held'
            )
            SELECT coalesce(w.owner_id, h.owner_id), coalesce(w.asset_id, h.asset_id),
                   coalesce(w.units, 0), coalesce(h.units, 0)
            FROM wanted w FULL JOIN held h ON h.owner_id = w.owner_id AND h.asset_id = w.asset_id
            WHERE coalesce(w.units, 0) <> coalesce(h.units, 0) LIMIT %s
            """,
            [_LIMIT],
        )
        bad = [f"person {r[0]}, asset {r[1]}: slots and withdrawals want {r[2]}, held {r[3]}" for r in cursor]
        cursor.execute("SELECT count(*) FROM ledger_account WHERE kind = 'held'")
        accounts = cursor.fetchone()[0]
    return Finding(bad, {"held_accounts": accounts})


@invariant("every occurrence of a plan has one slot")
def plans_have_every_slot() -> Finding:
    """Numbers 1 to next_number - 1 exist exactly once (the unique constraint covers “at most”)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT p.id, p.next_number - 1, count(s.id) FROM plans_plan p
            LEFT JOIN plans_slot s ON s.plan_id = p.id
            GROUP BY p.id HAVING count(s.id) <> p.next_number - 1 LIMIT %s
            """,
            [_LIMIT],
        )
        bad = [f"plan {row[0]}: {row[1]} occurrences passed, {row[2]} slots" for row in cursor]
        cursor.execute("SELECT count(*) FROM plans_plan")
        plans = cursor.fetchone()[0]
    return Finding(bad, {"plans": plans})


@invariant("settled batches share their fill exactly")
def batches_share_exactly() -> Finding:
    """The slots' received units sum to the batch's fill, and the swap's input to what the slots put in."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT b.id, b.filled_out_units, sum(s.received_units), b.filled_in_units, sum(s.swap_units)
            FROM plans_batch b JOIN plans_slot s ON s.batch_id = b.id AND s.state = 'settled'
            WHERE b.state = 'settled' GROUP BY b.id
            HAVING b.filled_out_units <> sum(s.received_units) OR b.filled_in_units > sum(s.swap_units) LIMIT %s
            """,
            [_LIMIT],
        )
        bad = [f"batch {r[0]}: filled {r[1]}, slots got {r[2]}; took {r[3]} of {r[4]}" for r in cursor]
        cursor.execute("SELECT count(*) FROM plans_batch WHERE state = 'settled'")
        batches = cursor.fetchone()[0]
    return Finding(bad, {"settled_batches": batches})
