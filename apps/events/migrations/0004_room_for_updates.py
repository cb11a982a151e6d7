"""Room on each page for sequences to count on without touching an index (see the migration of this name in plans)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("events", "0003_xid")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE events_eventhead SET (fillfactor = 60)",
            reverse_sql="ALTER TABLE events_eventhead RESET (fillfactor)",
        ),
    ]
