import uuid

import django.db.models.deletion
from django.db import migrations, models

import apps.core.clock
import apps.core.fields
import apps.core.ids

# Django cannot say PARTITION BY. No foreign keys here: the trigger of 0002 checks accounts, assets and journals
# for a whole statement at once (see `models.Entry`).
ENTRY = """
CREATE TABLE ledger_entry (
    id uuid PRIMARY KEY,
    journal_id uuid NOT NULL,
    account_id uuid NOT NULL,
    asset_id uuid NOT NULL,
    amount_units numeric(78, 0) NOT NULL CONSTRAINT ledger_entry_not_zero CHECK (amount_units <> 0),
    balance_after_units numeric(78, 0) NOT NULL
) PARTITION BY RANGE (id);
CREATE TABLE ledger_entry_default PARTITION OF ledger_entry DEFAULT;
CREATE INDEX ledger_entry_account ON ledger_entry (account_id, id);
CREATE INDEX ledger_entry_journal ON ledger_entry (journal_id);
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [("core", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Account",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=apps.core.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("kind", models.CharField(max_length=16)),
                (
                    "asset",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="core.asset"
                    ),
                ),
                ("owner_id", models.UUIDField(blank=True, null=True)),
                ("ref", models.CharField(blank=True, db_default="", default="", max_length=100)),
                ("balance_units", apps.core.fields.UnitsField(db_default=0, default=0, editable=False)),
                (
                    "last_entry_id",
                    models.UUIDField(db_default=uuid.UUID(int=0), default=uuid.UUID(int=0), editable=False),
                ),
                ("created_at", models.DateTimeField(default=apps.core.clock.now, editable=False)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("owner_id", "asset", "kind", "ref"),
                        name="ledger_account_key",
                        nulls_distinct=False,
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("balance_units__gte", 0),
                                ("kind__in", ["available", "equity", "fees", "held"]),
                            ),
                            models.Q(("balance_units__lte", 0), ("kind__in", ["custody", "gas"])),
                            _connector="OR",
                        ),
                        name="ledger_account_no_overdraft",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("kind__in", ["available", "held"]), ("owner_id__isnull", False)),
                            models.Q(
                                models.Q(("kind__in", ["available", "held"]), _negated=True),
                                ("owner_id__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="ledger_account_owner",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Journal",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=apps.core.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("kind", models.CharField(max_length=48)),
                ("reference", models.CharField(max_length=200)),
                ("fingerprint", models.BinaryField(max_length=32)),
                ("metadata", models.JSONField(blank=True, default=dict)),
                ("posted_at", models.DateTimeField(default=apps.core.clock.now)),
                (
                    "reverses",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reversed_by",
                        to="ledger.journal",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("reference",), name="ledger_journal_reference")
                ],
            },
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(ENTRY, "DROP TABLE ledger_entry")],
            state_operations=[
                migrations.CreateModel(
                    name="Entry",
                    fields=[
                        (
                            "id",
                            models.UUIDField(
                                default=apps.core.ids.uuid7, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        (
                            "journal",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="entries",
                                to="ledger.journal",
                            ),
                        ),
                        (
                            "account",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="entries",
                                to="ledger.account",
                            ),
                        ),
                        (
                            "asset",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="+",
                                to="core.asset",
                            ),
                        ),
                        ("amount_units", apps.core.fields.UnitsField()),
                        ("balance_after_units", apps.core.fields.UnitsField()),
                    ],
                    options={
                        "verbose_name_plural": "entries",
                        "indexes": [
                            models.Index(fields=["account", "id"], name="ledger_entry_account"),
                            models.Index(fields=["journal"], name="ledger_entry_journal"),
                        ],
                    },
                )
            ],
        ),
    ]
