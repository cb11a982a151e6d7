"""Exports in the database: web and workers share no disk.

The column `file_name` stays for one release, for processes of the version before. Exports of that version are said to be
deleted; their files lie where MEDIA_ROOT said, which nothing reads any more and may be removed.
"""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

import apps.core.ids

READY = Q(ready_at__isnull=False, expires_at__isnull=False, size_bytes__isnull=False)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0042_unproved_people")]

    operations = [
        migrations.CreateModel(
            name="ExportPart",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=apps.core.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("content", models.BinaryField()),
                (
                    "export",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="parts",
                        to="accounts.dataexport",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("export", "number"), name="accounts_export_part")
                ]
            },
        ),
        # Compressed already: PostgreSQL need not try.
        migrations.RunSQL(
            "ALTER TABLE accounts_exportpart ALTER COLUMN content SET STORAGE EXTERNAL",
            migrations.RunSQL.noop,
        ),
        migrations.RemoveConstraint("dataexport", "accounts_export_ready_has_file"),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE accounts_dataexport ALTER COLUMN file_name SET DEFAULT ''",
                    "ALTER TABLE accounts_dataexport ALTER COLUMN file_name DROP DEFAULT",
                )
            ],
            state_operations=[migrations.RemoveField("dataexport", "file_name")],
        ),
        migrations.RunSQL(
            "UPDATE accounts_dataexport SET state = 'deleted' WHERE state = 'ready'", migrations.RunSQL.noop
        ),
        migrations.AddConstraint(
            "dataexport",
            models.CheckConstraint(
                condition=Q(("state__in", ["queued", "ready", "deleted"]), ~Q(state="ready") | READY),
                name="accounts_export_ready_has_file",
            ),
        ),
    ]
