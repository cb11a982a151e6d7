from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chain", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="outboundtransaction",
            name="booked_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="outboundtransaction",
            name="gas_booked_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name="outboundtransaction",
            index=models.Index(
                condition=models.Q(
                    ("booked_at__isnull", True), ("gas_booked_at__isnull", True), _connector="OR"
                ),
                fields=["network", "block_number"],
                name="chain_transaction_unbooked",
            ),
        ),
    ]
