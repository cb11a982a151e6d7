"""Let each event say which transaction wrote it, so that a reader of the whole log can tell what may still come before.

Ids and instants are made before the commit: an event may become visible after younger ones. Transaction numbers tell:
whatever is below the oldest transaction that still runs is there for good (`apps.events.selectors.events_after`).
Events that are there already get the number of this migration: their order among themselves is that of their ids.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("events", "0002_partitioned")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE events_event ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();"
            " CREATE INDEX events_event_xid ON events_event (xid, id);",
            reverse_sql="ALTER TABLE events_event DROP COLUMN xid;",
        )
    ]
