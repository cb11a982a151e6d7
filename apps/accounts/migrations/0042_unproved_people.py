"""`apps.accounts.signin.unproved` asks for emails that are not proved, of which there are few: allauth has no index."""

from django.db import migrations

CREATE = "CREATE INDEX account_emailaddress_unproved ON account_emailaddress (user_id) WHERE NOT verified"


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0041_session_keys"),
        ("account", "0009_emailaddress_unique_primary_email"),
    ]

    operations = [migrations.RunSQL(CREATE, "DROP INDEX account_emailaddress_unproved")]
