"""The audit log: partitioned by month on `id`, append-only by trigger and by privilege, every record queued for its seal."""

import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.db import migrations, models

import apps.core.clock
import apps.core.ids

LOG = """
CREATE TABLE accounts_auditrecord (
    id uuid PRIMARY KEY,
    occurred_at timestamptz NOT NULL,
    actor_id uuid,
    actor_name varchar(120) NOT NULL,
    via varchar(64) NOT NULL,
    action varchar(80) NOT NULL,
    target_type varchar(64) NOT NULL,
    target_id varchar(64) NOT NULL,
    before jsonb,
    after jsonb,
    address inet,
    request_id varchar(128) NOT NULL
) PARTITION BY RANGE (id);
CREATE TABLE accounts_auditrecord_default PARTITION OF accounts_auditrecord DEFAULT;
CREATE INDEX accounts_audit_target ON accounts_auditrecord (target_id, id);
CREATE INDEX accounts_audit_actor ON accounts_auditrecord (actor_id, id);
CREATE INDEX accounts_audit_action ON accounts_auditrecord (action, id);
"""

GUARDS = """
-- Row triggers are cloned to every partition, present and future; what statements and privileges need is added to
-- each partition (apps/accounts/audit/guards.py).
CREATE TRIGGER accounts_audit_append_only BEFORE UPDATE OR DELETE ON accounts_auditrecord
    FOR EACH ROW EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER accounts_audit_no_truncate BEFORE TRUNCATE ON accounts_auditrecord
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER accounts_audit_no_truncate BEFORE TRUNCATE ON accounts_auditrecord_default
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER accounts_audit_append_only BEFORE UPDATE OR DELETE ON accounts_auditseal
    FOR EACH ROW EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER accounts_audit_no_truncate BEFORE TRUNCATE ON accounts_auditseal
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON accounts_auditrecord, accounts_auditrecord_default, accounts_auditseal
    FROM PUBLIC, CURRENT_USER;

CREATE FUNCTION accounts_audit_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO accounts_auditpending (record_id) VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_audit_queue AFTER INSERT ON accounts_auditrecord
    FOR EACH ROW EXECUTE FUNCTION accounts_audit_queue();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0030_key_networks"), ("events", "0002_partitioned")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(LOG, reverse_sql="DROP TABLE accounts_auditrecord")],
            state_operations=[
                migrations.CreateModel(
                    name="AuditRecord",
                    fields=[
                        (
                            "id",
                            models.UUIDField(
                                default=apps.core.ids.uuid7, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("occurred_at", models.DateTimeField(default=apps.core.clock.now)),
                        ("actor_id", models.UUIDField(null=True)),
                        ("actor_name", models.CharField(blank=True, max_length=120)),
                        ("via", models.CharField(blank=True, max_length=64)),
                        ("action", models.CharField(max_length=80)),
                        ("target_type", models.CharField(max_length=64)),
                        ("target_id", models.CharField(max_length=64)),
                        ("before", models.JSONField(null=True)),
                        ("after", models.JSONField(null=True)),
                        ("address", models.GenericIPAddressField(null=True)),
                        ("request_id", models.CharField(blank=True, max_length=128)),
                    ],
                    options={
                        "indexes": [
                            models.Index(fields=["target_id", "id"], name="accounts_audit_target"),
                            models.Index(fields=["actor_id", "id"], name="accounts_audit_actor"),
                            models.Index(fields=["action", "id"], name="accounts_audit_action"),
                        ],
                    },
                )
            ],
        ),
        migrations.CreateModel(
            name="AuditPending",
            fields=[
                ("record_id", models.UUIDField(primary_key=True, serialize=False)),
                ("queued_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.CreateModel(
            name="AuditSeal",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("record_id", models.UUIDField()),
                ("digest", models.BinaryField(max_length=32)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("record_id",), name="accounts_auditseal_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="AuditCheck",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=apps.core.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("started_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("finished_at", models.DateTimeField(null=True)),
                ("position", models.BigIntegerField(default=0)),
                ("digest", models.BinaryField(max_length=32)),
                (
                    "violations",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=300), default=list, size=None
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["-started_at"], name="accounts_auditcheck_newest")],
            },
        ),
        migrations.RunSQL(GUARDS, reverse_sql="DROP FUNCTION accounts_audit_queue CASCADE"),
    ]
