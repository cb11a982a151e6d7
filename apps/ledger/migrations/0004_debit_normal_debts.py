"""The triggers of 0002 learn what 0003 added: `owed` and `loss` stand below zero, like `custody` and `gas`."""

from django.db import migrations

_KINDS = """
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ledger_entries_apply()', 'ledger_entries_explain(uuid[], jsonb)'] LOOP
        EXECUTE replace(
            pg_get_functiondef(name::regprocedure), '({before})', '({after})'
        );
    END LOOP;
END $$
"""
_OLD, _NEW = "''custody'', ''gas''", "''custody'', ''gas'', ''loss'', ''owed''"


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_owed_and_loss")]

    operations = [
        migrations.RunSQL(_KINDS.format(before=_OLD, after=_NEW), _KINDS.format(before=_NEW, after=_OLD))
    ]
