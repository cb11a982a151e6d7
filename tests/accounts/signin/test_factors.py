"""The second factor: authenticator apps, recovery codes, and that it is asked for."""

import threading
import time
from collections.abc import Callable

import pytest
from allauth.mfa.models import Authenticator
from django.core.cache import cache
from django.db import connection, transaction

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.accounts.signin.factor import AllauthSecondFactor
from apps.events.models import Event
from tests.accounts.signin.support import EMAIL, OTHER, PASSWORD, Person, incomplete, mails, totp_at
from tests.core.api.support import ApiClient, problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> Person:
    person = Person().sign_up()
    person.codes = person.totp_add()  # type: ignore[attr-defined]
    return person


def codes_of(person: Person) -> list[str]:
    return list(person.codes)  # type: ignore[attr-defined]


def waiting(person: Person) -> Person:
    """Another device of the same person, which has shown the password."""
    other = Person()
    incomplete(other.sign_in(), "mfa_authenticate")
    other.secret = person.secret
    return other


def test_an_authenticator_app_is_added() -> None:
    person = Person().sign_up()
    assert person.get("factors").json() == {"totp": False, "passkeys": 0, "recovery_codes_left": 0}
    begun = person.post("factors/totp")
    document = begun.json()
    assert begun["Cache-Control"] == "no-store"
    assert document["uri"].startswith("otpauth://totp/ann%40example.org?secret=")
    assert document["uri"].endswith("&issuer=Tranche")
    assert document["qr_svg"].startswith("<svg")
    problem(person.post("factors/totp/confirm", {"code": "000000"}), 400, "wrong_code")
    assert not second_factor.current().enrolled(user_ids=[User.objects.get().pk])

    person.secret = document["secret"]
    answer = person.post("factors/totp/confirm", {"code": person.totp()})

    assert answer.status_code == 200, answer.content
    codes = answer.json()["recovery_codes"]
    assert len(set(codes)) == 10
    assert {len(code) for code in codes} == {8}
    assert person.get("factors").json() == {"totp": True, "passkeys": 0, "recovery_codes_left": 10}
    assert AllauthSecondFactor().enrolled(user_ids=[User.objects.get().pk]) == {User.objects.get().pk}
    name, context = mails()[-1]
    assert (name, context["factor"], context["address"]) == ("factor_added", "totp", "198.51.100.7")
    assert [event.payload for event in Event.objects.filter(topic="person.factor_added")] == [
        {"factor": "totp"}
    ]
    problem(person.post("factors/totp"), 409, "totp_exists")
    problem(person.post("factors/totp/confirm", {"code": person.totp(1)}), 409, "totp_exists")


def test_its_secret_and_the_recovery_seed_are_encrypted(ann: Person) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT data::text FROM mfa_authenticator")
        text = " ".join(row[0] for row in cursor.fetchall())
    assert ann.secret not in text
    assert not any(code in text for code in codes_of(ann))


def test_signing_in_asks_for_it_and_a_code_is_good_once(ann: Person) -> None:
    first, second = waiting(ann), waiting(ann)
    code = ann.totp()

    assert first.post("sign-in/factor", {"code": code}).status_code == 200

    # Not kept in Redis, of all places.
    cache.clear()
    problem(second.post("sign-in/factor", {"code": code}), 400, "wrong_code")
    # Nor is an older one that was not shown.
    problem(second.post("sign-in/factor", {"code": ann.totp(-1)}), 400, "wrong_code")
    assert second.get("factors").status_code == 401
    assert second.post("sign-in/factor", {"code": ann.totp(1)}).status_code == 200


def test_one_code_on_two_devices_at_once_lets_one_in(transactional_db: None) -> None:
    ann = Person().sign_up()
    ann.totp_add()
    devices, code, seen = [waiting(ann), waiting(ann)], ann.totp(), []

    def show(device: Person) -> None:
        try:
            seen.append(device.post("sign-in/factor", {"code": code}).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=show, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [200, 400]


def test_codes_that_are_off_by_more_than_a_step_are_wrong(ann: Person) -> None:
    device = waiting(ann)
    for steps in (-2, 3):
        problem(device.post("sign-in/factor", {"code": ann.totp(steps)}), 400, "wrong_code")


def test_a_recovery_code_is_good_once(ann: Person) -> None:
    code = codes_of(ann)[3]
    device = waiting(ann)
    assert device.post("sign-in/factor", {"code": f"{code[:4]} {code[4:]}"}).status_code == 200
    assert device.get("factors").json()["recovery_codes_left"] == 9
    problem(waiting(ann).post("sign-in/factor", {"code": code}), 400, "wrong_code")


def test_new_recovery_codes_end_the_old_ones(ann: Person) -> None:
    answer = ann.post("factors/recovery-codes")
    assert answer.status_code == 401
    assert ann.post("step-up", {"code": ann.totp()}).status_code == 204
    answer = ann.post("factors/recovery-codes")
    assert answer.status_code == 200, answer.content
    fresh = answer.json()["recovery_codes"]
    assert len(fresh) == 10
    assert not set(fresh) & set(codes_of(ann))
    assert mails()[-1][0] == "recovery_codes_made"
    assert Event.objects.filter(topic="person.recovery_codes_made").count() == 1
    problem(waiting(ann).post("sign-in/factor", {"code": codes_of(ann)[0]}), 400, "wrong_code")
    assert waiting(ann).post("sign-in/factor", {"code": fresh[0]}).status_code == 200


def test_recovery_codes_without_a_factor_are_none() -> None:
    person = Person().sign_up()
    problem(person.post("factors/recovery-codes"), 409, "no_second_factor")


def test_five_wrong_codes_and_the_person_waits_wherever_they_are_shown(
    ann: Person, later: Callable[[float], None]
) -> None:
    device = waiting(ann)
    for _ in range(5):
        problem(device.post("sign-in/factor", {"code": "000000"}), 400, "wrong_code")
    cache.clear()
    refused = device.post("sign-in/factor", {"code": ann.totp()})
    problem(refused, 429, "throttled", retryable=True)
    assert 290 < int(refused["Retry-After"]) <= 300
    # Another flow from elsewhere, and a withdrawal, are the same person's tries.
    elsewhere = Person("203.0.113.9")
    incomplete(elsewhere.sign_in(), "mfa_authenticate")
    problem(elsewhere.post("sign-in/factor", {"code": ann.totp()}), 429, "throttled", retryable=True)
    with transaction.atomic():
        assert not AllauthSecondFactor().verify(
            user_id=User.objects.get().pk, code=ann.totp(), purpose="withdrawal"
        )
    later(301)
    fresh = waiting(ann)
    assert fresh.post("sign-in/factor", {"code": ann.totp()}).status_code == 200


def test_a_code_is_good_once_over_signing_in_and_withdrawing(ann: Person) -> None:
    user, code = User.objects.get(), ann.totp()
    with transaction.atomic():
        assert AllauthSecondFactor().verify(user_id=user.pk, code=code, purpose="withdrawal")
    with transaction.atomic():
        assert not AllauthSecondFactor().verify(user_id=user.pk, code=code, purpose="withdrawal")
    problem(waiting(ann).post("sign-in/factor", {"code": code}), 400, "wrong_code")


def test_a_code_of_somebody_else_is_wrong(ann: Person) -> None:
    bob = Person().sign_up("bob@example.org")
    bob.totp_add()
    with transaction.atomic():
        found = AllauthSecondFactor().verify(
            user_id=User.objects.get(email=EMAIL).pk, code=bob.totp(), purpose="withdrawal"
        )
    assert not found


def test_every_route_that_wants_a_step_up_says_which_proof(
    ann: Person, later: Callable[[float], None]
) -> None:
    later(301)
    client = ApiClient(ann.access)
    for path in ("api-keys", "withdrawal-destinations", "me/close"):
        document = problem(client.post(f"/api/v1/{path}", {}), 401, "reauthentication_required")
        assert document["flows"] == [{"id": "mfa_reauthenticate", "types": ["recovery_codes", "totp"]}], path
        assert document["max_age"] == 300


def test_removing_it_wants_the_factor_itself(ann: Person, later: Callable[[float], None]) -> None:
    """A stolen session, even together with the password, must not get rid of it."""
    later(301)
    document = problem(ann.delete("factors/totp"), 401, "reauthentication_required")
    assert document["flows"] == [{"id": "mfa_reauthenticate", "types": ["recovery_codes", "totp"]}]
    problem(ann.post("step-up", {"password": PASSWORD}), 403, "second_factor_required")
    problem(ann.post("step-up", {"code": "000000"}), 400, "wrong_code")
    problem(ann.delete("factors/totp"), 401, "reauthentication_required")
    assert ann.post("step-up", {"code": ann.totp()}).status_code == 204

    assert ann.delete("factors/totp").status_code == 204

    assert Authenticator.objects.count() == 0
    assert (mails()[-1][0], mails()[-1][1]["factor"]) == ("factor_removed", "totp")
    assert [event.payload for event in Event.objects.filter(topic="person.factor_removed")] == [
        {"factor": "totp"}
    ]
    problem(ann.delete("factors/totp"), 404, "not_found")
    assert Person().sign_in().status_code == 200


def test_a_proof_without_the_factor_counts_no_more_once_there_is_one(ann: Person) -> None:
    """Signed up a moment ago, by password: enough to add the factor, not to change it."""
    problem(ann.delete("factors/totp"), 401, "reauthentication_required")


def test_adding_one_wants_a_fresh_proof(later: Callable[[float], None]) -> None:
    person = Person().sign_up()
    later(301)
    problem(person.post("factors/totp"), 401, "reauthentication_required")
    problem(person.post("factors/totp/confirm", {"code": "000000"}), 400, "wrong_code")
    assert Authenticator.objects.count() == 0


def test_a_proof_is_as_old_as_the_platforms_clock_says(ann: Person, time_travel: Callable[..., int]) -> None:
    """Also where allauth asks, which goes by the machine's: no route is easier than another."""
    assert ann.post("step-up", {"code": ann.totp()}).status_code == 204
    assert ApiClient(ann.access).post("/api/v1/api-keys", {}).status_code == 400

    time_travel(seconds=301)

    problem(ApiClient(ann.access).post("/api/v1/api-keys", {}), 401, "reauthentication_required")
    problem(ann.post("factors/recovery-codes"), 401, "reauthentication_required")
    problem(ann.delete("factors/totp"), 401, "reauthentication_required")
    body = {"current_password": PASSWORD, "new_password": OTHER}
    problem(ann.post("password", body), 401, "reauthentication_required")
    assert User.objects.get().check_password(PASSWORD)


def test_totp_is_that_of_the_rfc() -> None:
    """RFC 6238, appendix B, for SHA-1 in six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        assert totp_at(secret, seconds // 30) == code
    assert time.time() > 0
