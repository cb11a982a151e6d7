"""Room on each page for balances to change without touching an index (see the migration of this name in plans)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_debit_normal_debts")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE ledger_account SET (fillfactor = 60)",
            reverse_sql="ALTER TABLE ledger_account RESET (fillfactor)",
        ),
    ]
