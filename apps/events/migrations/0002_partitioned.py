"""Replace the plain table by one that is partitioned by month on `id`, and make it append-only."""

from django.db import migrations

PARTITIONED = """
DROP TABLE events_event;
CREATE TABLE events_event (
    id uuid PRIMARY KEY,
    topic varchar(64) NOT NULL,
    subject_type varchar(32) NOT NULL,
    subject_id uuid NOT NULL,
    sequence bigint NOT NULL,
    object_type varchar(32) NOT NULL,
    object_id uuid,
    payload jsonb NOT NULL,
    occurred_at timestamptz NOT NULL
) PARTITION BY RANGE (id);
CREATE TABLE events_event_default PARTITION OF events_event DEFAULT;
CREATE INDEX events_event_subject ON events_event (subject_type, subject_id, sequence);
CREATE INDEX events_event_object ON events_event (object_id, id);

CREATE FUNCTION core_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
-- Row triggers are cloned to every partition, present and future.
CREATE TRIGGER events_event_append_only BEFORE UPDATE OR DELETE ON events_event
    FOR EACH ROW EXECUTE FUNCTION core_refuse_change();
-- Statement triggers are not: each partition gets its own (apps/events/apps.py).
CREATE TRIGGER events_event_no_truncate BEFORE TRUNCATE ON events_event
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER events_event_no_truncate BEFORE TRUNCATE ON events_event_default
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0001_initial")]

    operations = [migrations.RunSQL(PARTITIONED, reverse_sql=migrations.RunSQL.noop)]
