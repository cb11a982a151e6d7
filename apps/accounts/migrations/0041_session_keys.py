"""What opens a session is stored as a digest from now on: sessions that are there go on."""

from django.db import migrations

# As `apps.accounts.signin.sessions.stored_key`.
HASHED = """
UPDATE django_session SET session_key = left(encode(sha256(convert_to(session_key, 'UTF8')), 'hex'), 40)
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0040_preferences_and_exports"),
        ("sessions", "0001_initial"),
    ]

    # Backwards nobody knows the keys any more: everybody signs in again.
    operations = [migrations.RunSQL(HASHED, "DELETE FROM django_session")]
