"""What django-allauth and Django keep for us is moved to the new key like our own columns, and goes on working."""

import io
import json
from contextlib import suppress
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.sessions.models import Session as DjangoSession
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from apps.accounts.signin import secrets
from apps.core import keys
from tests.accounts.signin.support import EMAIL, PASSWORD, Person, incomplete

pytestmark = pytest.mark.django_db
OLD, NEW = {"old": b"o" * 32}, {"new": b"n" * 32}
BOTH = {**NEW, **OLD}
SECRET, SEED, SESSIONS = (
    "mfa_authenticator.data.secret",
    "mfa_authenticator.data.seed",
    "django_session.session_data",
)


def rows() -> dict[str, Any]:
    out = io.StringIO()
    # Its exit status says whether a key is missing.
    with suppress(SystemExit):
        call_command("keys", "status", "--json", stdout=out)
    return {one["column"]: one["rows"] for one in json.loads(out.getvalue())}


def rotate(batch: int = 500) -> dict[str, int]:
    return {str(done.column): done.moved for done in keys.keys_rotate(batch=batch) if not done.refused}


def test_factors_and_sessions_move_and_the_old_key_can_go() -> None:
    with override_settings(ENCRYPTION_KEYS=OLD):
        person = Person().sign_up()
        codes = person.totp_add()
        started = Person()
        incomplete(started.sign_in(), "mfa_authenticate")
    with override_settings(ENCRYPTION_KEYS=BOTH):
        found = rows()
        assert (found[SECRET], found[SEED], found[SESSIONS]) == ({"old": 1}, {"old": 1}, {"old": 2})
        before = {row.type: row.data for row in Authenticator.objects.all()}

        moved = rotate()

        assert (moved[SECRET], moved[SEED], moved[SESSIONS]) == (1, 1, 2)
        assert set(rotate().values()) == {0}
        for row in Authenticator.objects.all():
            # Nothing else of the row is touched.
            sealed = {"secret", "seed"} & set(row.data)
            kept = {name: one for name, one in row.data.items() if name not in sealed}
            assert kept == {name: one for name, one in before[row.type].items() if name not in sealed}
            assert all(
                "\n" not in row.data[name] and row.data[name] != before[row.type][name] for name in sealed
            )
    with override_settings(ENCRYPTION_KEYS=NEW):
        found = rows()
        assert (found[SECRET], found[SEED], found[SESSIONS]) == ({"new": 1}, {"new": 1}, {"new": 2})
        # A sign-in that was under way goes on, with the app and with a recovery code.
        started.secret = person.secret
        assert started.post("sign-in/factor", {"code": started.totp()}).status_code == 200
        other = Person()
        incomplete(other.sign_in(), "mfa_authenticate")
        assert other.post("sign-in/factor", {"code": codes[4]}).status_code == 200
        # Whoever had just shown the factor has still shown it.
        assert person.post("step-up", {"code": person.totp(1)}).status_code in (204, 400)
        assert person.get("factors").json()["recovery_codes_left"] == 9


def test_what_does_not_decrypt_is_left_and_named() -> None:
    with override_settings(ENCRYPTION_KEYS=OLD):
        Person().sign_up().totp_add()
    Authenticator.objects.filter(type="recovery_codes").update(data={"seed": "no base64!", "used_mask": 0})
    DjangoSession.objects.update(session_data="AQNvbGQ=")
    with override_settings(ENCRYPTION_KEYS=BOTH):
        done = {str(one.column): one for one in keys.keys_rotate(batch=1)}
        assert (done[SECRET].moved, done[SEED].moved, done[SESSIONS].moved) == (1, 0, 0)
        row = Authenticator.objects.get(type="recovery_codes")
        assert done[SEED].refused == [f"{SEED}.{row.pk}: not a ciphertext of this system"]
        assert done[SESSIONS].refused == ["django_session.session_data: wrong key, wrong place, or altered"]
        assert rows()[SEED] == {"": 1}
    assert Authenticator.objects.get(type="recovery_codes").data["seed"] == "no base64!"


def test_hundreds_are_moved_in_bounded_batches(django_assert_num_queries: Any) -> None:
    Person().sign_up()
    with override_settings(ENCRYPTION_KEYS=OLD):
        one = secrets.seal("JBSWY3DPEHPK3PXP")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_user (id, email, password, is_active, is_staff, is_superuser, fee_tier,"
            " created_at, frozen_reason) SELECT gen_random_uuid(), 'p' || n || '@example.org', '!', true, false,"
            " false, 'standard', now(), '' FROM generate_series(1, 300) AS n"
        )
        cursor.execute(
            "INSERT INTO mfa_authenticator (user_id, type, data, created_at)"
            " SELECT id, 'totp', jsonb_build_object('secret', %s::text, 'used_counter', 7), now()"
            " FROM accounts_user",
            [one],
        )
    with override_settings(ENCRYPTION_KEYS=BOTH, SIGNER_KEYS={}):
        column = next(column for column in keys.columns() if str(column) == SECRET)
        assert rotate(batch=100)[SECRET] == 301
        opened = [secrets.unseal(row.data["secret"]) for row in Authenticator.objects.all()]
    assert (set(opened), keys.keys_status()[keys.columns().index(column)].rows) == (
        {"JBSWY3DPEHPK3PXP"},
        {"new": 301},
    )


def test_the_password_is_none_of_it() -> None:
    with override_settings(ENCRYPTION_KEYS=OLD):
        Person().sign_up()
    with override_settings(ENCRYPTION_KEYS=BOTH):
        rotate()
        assert Person().sign_in(EMAIL, PASSWORD).status_code == 200
