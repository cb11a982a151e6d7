from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("launch", "0002_history_stays")]

    operations = [
        migrations.AlterModelOptions(
            name="waitlistentry",
            options={
                "permissions": [("export_waitlistentry", "Can download the waitlist")],
                "verbose_name_plural": "waitlist entries",
            },
        ),
    ]
