"""What the database itself holds, whoever writes: see each function's comment."""

from django.db import migrations

from apps.core import partitions
from apps.ledger.triggers import partition_triggers

REFUSALS = """
CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger: % of % refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

-- Journals and entries are append-only: a correction is a reversing journal. Row triggers on the partitioned
-- parent are cloned to every partition, present and future.
CREATE TRIGGER ledger_journal_append_only BEFORE UPDATE OR DELETE ON ledger_journal
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_journal_no_truncate BEFORE TRUNCATE ON ledger_journal
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_entry_append_only BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();

-- An account changes by entries only: their trigger runs one level deep, a statement of anybody else at none.
ALTER TABLE ledger_account SET (fillfactor = 70);
CREATE TRIGGER ledger_account_moved_by_entries BEFORE UPDATE ON ledger_account
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_account_starts_empty BEFORE INSERT ON ledger_account
    FOR EACH ROW WHEN (NEW.balance_units <> 0 OR NEW.last_entry_id <> '00000000-0000-0000-0000-000000000000')
    EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_account_stays BEFORE DELETE ON ledger_account
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_account_no_truncate BEFORE TRUNCATE ON ledger_account
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
"""

OPENING = """
-- Journals that this transaction has written and whose entries are still to come: one row per statement, gone
-- before the commit. It is what makes a journal without entries, entries without a journal, and entries added to
-- an older journal impossible, at the price of two small writes per statement instead of a look-up per row.
-- Rows of others are never visible here; UNLOGGED, since no row outlives its transaction.
CREATE UNLOGGED TABLE ledger_opening (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    journal_ids uuid[] NOT NULL,
    reversing boolean NOT NULL
);
CREATE TRIGGER ledger_opening_internal BEFORE INSERT OR UPDATE OR DELETE ON ledger_opening
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_opening_no_truncate BEFORE TRUNCATE ON ledger_opening
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

CREATE FUNCTION ledger_journals_open() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger_opening (journal_ids, reversing)
    SELECT array_agg(id ORDER BY id), bool_or(reverses_id IS NOT NULL) FROM fresh HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_journal_open AFTER INSERT ON ledger_journal
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION ledger_journals_open();

CREATE FUNCTION ledger_opening_closed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    forsaken uuid;
BEGIN
    SELECT journal_ids[1] INTO forsaken FROM ledger_opening WHERE id = NEW.id;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger: journal % has no entries', forsaken
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_journal_has_entries';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_opening_closed AFTER INSERT ON ledger_opening
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_opening_closed();
"""

APPLY = """
-- Checks a statement's entries as a whole and applies them to their accounts. What stays true:
--   1. per journal and asset they sum to zero;
--   2. their journals were written by this transaction, and these are all the entries these journals will have;
--   3. each account exists and is of the entry's asset, and its entries go on from its balance and its newest
--      entry, step by step, never past zero on the wrong side: `balance_after_units` is what it says;
--   4. a reversing journal undoes its original exactly.
-- Hash and merge joins are off because the plan is kept for the session: one chosen for thousands of entries
-- would read all accounts when the next statement has two. Look-ups by key are right for both.
CREATE FUNCTION ledger_entries_apply() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    mentioned uuid[];
    opened uuid[] := '{}';
    reversing boolean := false;
    batch record;
    offender uuid;
    groups bigint;
    applied bigint;
BEGIN
    SELECT array_agg(DISTINCT journal_id) INTO mentioned FROM fresh;
    IF mentioned IS NULL THEN
        RETURN NULL;
    END IF;

    SELECT journal_id INTO offender FROM fresh
    GROUP BY journal_id, asset_id HAVING sum(amount_units) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger: journal % does not sum to zero', offender
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_entry_zero_sum';
    END IF;

    FOR batch IN DELETE FROM ledger_opening RETURNING * LOOP
        opened := opened || batch.journal_ids;
        reversing := reversing OR batch.reversing;
    END LOOP;
    -- DISTINCT sorts, and so did the journals' trigger: mostly the two arrays are simply equal.
    IF mentioned <> opened THEN
        SELECT id INTO offender
        FROM (SELECT unnest(mentioned) EXCEPT SELECT unnest(opened)) AS stray (id) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'ledger: journal % was not opened by this transaction or has its entries', offender
                USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_entry_journal_open';
        END IF;
        INSERT INTO ledger_opening (journal_ids, reversing)
        SELECT array_agg(id ORDER BY id), reversing
        FROM (SELECT unnest(opened) EXCEPT SELECT unnest(mentioned)) AS waiting (id) HAVING count(*) > 0;
    END IF;

    WITH walked AS (
        SELECT account_id, asset_id, id, amount_units, balance_after_units,
            lag(balance_after_units) OVER newest AS before_units,
            lead(id) OVER newest AS next_id
        FROM fresh
        WINDOW newest AS (PARTITION BY account_id, asset_id ORDER BY id)
    ), moves AS MATERIALIZED (
        SELECT account_id, asset_id,
            bool_and(before_units IS NULL OR balance_after_units = before_units + amount_units) AS continuous,
            min(balance_after_units) AS lowest, max(balance_after_units) AS highest,
            min(balance_after_units - amount_units) FILTER (WHERE before_units IS NULL) AS opening,
            min(balance_after_units) FILTER (WHERE next_id IS NULL) AS closing,
            (array_agg(id) FILTER (WHERE before_units IS NULL))[1] AS first_id,
            (array_agg(id) FILTER (WHERE next_id IS NULL))[1] AS last_id
        FROM walked GROUP BY account_id, asset_id
    ), applying AS (
        UPDATE ledger_account AS account
        SET balance_units = moves.closing, last_entry_id = moves.last_id
        FROM moves
        WHERE account.id = moves.account_id AND account.asset_id = moves.asset_id
            AND moves.continuous AND account.balance_units = moves.opening
            AND account.last_entry_id < moves.first_id
            AND CASE WHEN account.kind IN ('custody', 'gas') THEN moves.highest <= 0 ELSE moves.lowest >= 0 END
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM moves), (SELECT count(*) FROM applying) INTO groups, applied;
    IF applied <> groups THEN
        PERFORM ledger_entries_explain(
            (SELECT array_agg(DISTINCT account_id) FROM fresh),
            (SELECT jsonb_agg(to_jsonb(fresh) ORDER BY id) FROM fresh)
        );
    END IF;

    IF reversing THEN
        SELECT journal.id INTO offender FROM ledger_journal AS journal
        WHERE journal.id = ANY (mentioned) AND journal.reverses_id IS NOT NULL AND (
            EXISTS (SELECT 1 FROM ledger_journal AS original
                    WHERE original.id = journal.reverses_id AND original.reverses_id IS NOT NULL)
            OR EXISTS (
                SELECT account_id, -amount_units FROM fresh WHERE journal_id = journal.id
                EXCEPT ALL
                SELECT account_id, amount_units FROM ledger_entry WHERE journal_id = journal.reverses_id
            )
            OR (SELECT count(*) FROM fresh WHERE journal_id = journal.id)
                <> (SELECT count(*) FROM ledger_entry WHERE journal_id = journal.reverses_id)
        ) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'ledger: journal % does not undo what it reverses', offender
                USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_journal_reverses_exactly';
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- Some account was not moved: says why. Reached only on the way to an error, so it may be slow.
CREATE FUNCTION ledger_entries_explain(account_ids uuid[], entries jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    entry record;
    account record;
    tail numeric;
    tail_id uuid;
    known uuid;
BEGIN
    FOREACH known IN ARRAY account_ids LOOP
        SELECT * INTO account FROM ledger_account WHERE id = known;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'ledger: no account %', known
                USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'ledger_entry_account_exists';
        END IF;
        tail := NULL;
        FOR entry IN
            SELECT * FROM jsonb_to_recordset(entries) AS e
                (id uuid, account_id uuid, asset_id uuid, amount_units numeric, balance_after_units numeric)
            WHERE account_id = known ORDER BY id
        LOOP
            IF entry.asset_id <> account.asset_id THEN
                RAISE EXCEPTION 'ledger: account % is not of asset %', known, entry.asset_id
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_entry_asset_matches';
            END IF;
            IF account.kind NOT IN ('custody', 'gas') AND entry.balance_after_units < 0
                OR account.kind IN ('custody', 'gas') AND entry.balance_after_units > 0 THEN
                RAISE EXCEPTION 'ledger: account % overdrawn to %', known, entry.balance_after_units
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_account_no_overdraft';
            END IF;
            IF tail IS NOT NULL AND tail + entry.amount_units <> entry.balance_after_units THEN
                EXIT;
            END IF;
            tail := entry.balance_after_units;
        END LOOP;
    END LOOP;
    RAISE EXCEPTION 'ledger: entries do not continue their accounts'' balances and order'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_entry_continues';
END $$;

CREATE TRIGGER ledger_entry_apply AFTER INSERT ON ledger_entry
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_apply();
CREATE TRIGGER ledger_entry_no_truncate BEFORE TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
"""


def make_partitions(apps, schema_editor):  # noqa: ARG001
    partitions.ensure(tables=["ledger_entry"])


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]

    operations = [
        migrations.RunSQL(REFUSALS),
        migrations.RunSQL(OPENING),
        migrations.RunSQL(APPLY),
        migrations.RunSQL(partition_triggers("ledger_entry_default")),
        migrations.RunPython(make_partitions),
    ]
