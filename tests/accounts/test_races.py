"""Locks of people, keys, sessions, roles and closing: each race with the lock off, then with it on."""

import pytest
from allauth.mfa.models import Authenticator

from apps.accounts import closing, services
from apps.accounts.audit.checking import check_advance
from apps.accounts.audit.models import AuditCheck, AuditRecord
from apps.accounts.exports import BUILD, export_request
from apps.accounts.me.models import DataExport, ExportPart
from apps.accounts.me.preferences import preferences_of, preferences_set
from apps.accounts.models import ApiKey, Session, User
from apps.accounts.services import api_key_create, api_key_limit, user_create
from apps.accounts.signin.factor import totp_spend
from apps.accounts.tokens.models import EndReason
from apps.accounts.tokens.services import sessions_revoke
from apps.core import work
from apps.core.errors import Conflict, NotFound
from apps.events.models import Event
from tests.accounts.signin.support import EMAIL, OTHER, Person, code_sent, incomplete
from tests.accounts.tokens.support import signed_in
from tests.support.races import off_and_on, race

pytestmark = pytest.mark.django_db(transaction=True)
PEOPLE = r'FROM "accounts_user"'


@pytest.fixture
def ann() -> User:
    return user_create(email=EMAIL)


def key_make(user: User) -> ApiKey:
    return api_key_create(user_id=user.pk, name="one", scopes=["plans:read"]).api_key


@off_and_on
def test_keys_are_counted_one_request_after_another(
    ann: User, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    monkeypatch.setattr(services, "KEYS_MAX", 1)

    answers = race(
        lambda: key_make(ann), lambda: key_make(ann), lock=PEOPLE, locked=locked, read="accounts_apikey"
    )

    assert ApiKey.objects.count() == (1 if locked else 2)
    assert isinstance(answers[1], Conflict) is locked


@off_and_on
def test_each_change_of_a_keys_limits_is_recorded_from_what_it_was(ann: User, locked: bool) -> None:
    key = key_make(ann)

    def limit(network: str) -> ApiKey:
        return api_key_limit(api_key_id=key.pk, networks=[network], expires_at=None, actor="op")

    race(
        lambda: limit("192.0.2.1"), lambda: limit("192.0.2.2"), lock=r'FROM "accounts_apikey"', locked=locked
    )

    first, second = AuditRecord.objects.filter(action="api_key.limited").order_by("id")
    assert (second.before == first.after) is locked


@off_and_on
def test_two_changes_of_preferences_are_both_kept(ann: User, locked: bool) -> None:
    preferences_set(user_id=ann.pk, language="en")

    race(
        lambda: preferences_set(user_id=ann.pk, zone="Europe/Berlin"),
        lambda: preferences_set(user_id=ann.pk, digest=True),
        lock=PEOPLE,
        locked=locked,
        read="accounts_preferences",
    )

    kept = preferences_of([ann.pk])[ann.pk]
    assert (kept.zone, kept.digest) == ("Europe/Berlin" if locked else "UTC", True)


def close(user: User) -> None:
    closing.account_close(user_id=user.pk)


@off_and_on
def test_no_export_is_made_of_an_account_that_is_being_closed(ann: User, locked: bool) -> None:
    _, answer = race(lambda: close(ann), lambda: export_request(user_id=ann.pk), lock=PEOPLE, locked=locked)

    assert DataExport.objects.filter(state="queued").exists() is not locked
    assert isinstance(answer, NotFound) is locked


@off_and_on
def test_a_file_that_is_kept_while_its_account_closes_is_deleted(ann: User, locked: bool) -> None:
    export_request(user_id=ann.pk)

    answers = race(
        lambda: work.drain(BUILD, budget_seconds=0),
        lambda: close(ann),
        lock=r'FROM "accounts_dataexport" WHERE \("accounts_dataexport"."user_id"',
        locked=locked,
        read="accounts_exportpart",
    )

    print(answers, list(DataExport.objects.values("state", "last_error", "attempts", "lease_token")))
    assert DataExport.objects.get().state == "deleted"
    assert ExportPart.objects.exists() is not locked


@off_and_on
def test_an_account_is_closed_once(ann: User, locked: bool) -> None:
    _, answer = race(lambda: close(ann), lambda: close(ann), lock=PEOPLE, locked=locked)

    assert isinstance(answer, NotFound) is locked


@off_and_on
def test_a_closed_account_gets_no_authenticator(locked: bool) -> None:
    person = Person().sign_up()
    user = User.objects.get()
    person.secret = person.post("factors/totp").json()["secret"]
    body = {"code": person.totp()}

    _, answer = race(
        lambda: close(user), lambda: person.post("factors/totp/confirm", body), lock=PEOPLE, locked=locked
    )

    # Without the lock the end of the session is what stands between, and somebody who is gone is asked for a step.
    assert answer.json()["code"] == ("not_authenticated" if locked else "authentication_incomplete")
    assert not Authenticator.objects.exists()


@off_and_on
def test_a_closed_account_gets_no_password(locked: bool) -> None:
    Person().sign_up()
    user, person = User.objects.get(), Person()
    incomplete(person.post("password/forgot", {"email": EMAIL}), "password_reset_by_code")
    body = {"code": code_sent("password_reset_code"), "password": OTHER}

    _, answer = race(
        lambda: close(user), lambda: person.post("password/reset", body), lock=PEOPLE, locked=locked
    )

    assert (answer.status_code == 410) is locked
    assert User.objects.get().has_usable_password() is not locked


@off_and_on
def test_a_session_ends_once_and_is_told_of_once(locked: bool) -> None:
    user, _, _ = signed_in()

    def end() -> int:
        return sessions_revoke(user_id=user.pk, reason=EndReason.SIGNED_OUT)

    answers = race(end, end, lock=r'FROM "accounts_session"', locked=locked)

    assert answers == ([1, 0] if locked else [1, 1])
    assert Event.objects.filter(topic="session.revoked").count() == sum(answers)
    assert Session.objects.filter(revoked_at__isnull=True).count() == 0


@off_and_on
def test_a_code_of_the_app_is_spent_once(locked: bool) -> None:
    person = Person().sign_up()
    person.totp_add()
    app, code = Authenticator.objects.get(type="totp"), person.totp()

    answers = race(
        lambda: totp_spend(app, code),
        lambda: totp_spend(app, code),
        lock=r'FROM "mfa_authenticator"',
        locked=locked,
    )

    assert answers == [True, not locked]


@off_and_on
def test_one_process_at_a_time_checks_the_audit_log(locked: bool) -> None:
    _, answer = race(
        lambda: check_advance(seconds=30),
        lambda: check_advance(seconds=30),
        lock="pg_try_advisory_lock",
        locked=locked,
        # Whether a check is due.
        read="SELECT NOT EXISTS",
    )

    assert AuditCheck.objects.count() == (1 if locked else 2)
    assert (answer is None) is locked
