"""The history of states is evidence: rows are added, never changed or deleted."""

from django.db import migrations

FORWARD = """
CREATE TRIGGER launch_platformstate_append_only BEFORE UPDATE OR DELETE ON launch_platformstate
    FOR EACH ROW EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER launch_platformstate_no_truncate BEFORE TRUNCATE ON launch_platformstate
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
"""
BACKWARD = """
DROP TRIGGER launch_platformstate_append_only ON launch_platformstate;
DROP TRIGGER launch_platformstate_no_truncate ON launch_platformstate;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("launch", "0001_initial"),
        ("events", "0002_partitioned"),
    ]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
