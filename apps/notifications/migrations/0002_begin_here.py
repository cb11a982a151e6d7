"""The reader of mails begins where the log ends when it is installed: nobody is mailed about what happened before."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("notifications", "0001_initial"), ("events", "0003_xid")]

    operations = [
        migrations.RunSQL(
            "INSERT INTO notifications_reader (name, xid, event_id, moved_at)"
            " VALUES ('mail', pg_current_xact_id()::text::bigint,"
            " '00000000-0000-0000-0000-000000000000', now())",
            reverse_sql="DELETE FROM notifications_reader",
        )
    ]
