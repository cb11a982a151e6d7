"""Passkeys: added, listed, renamed, removed; alone, as a second factor, and for a step-up."""

from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.models import Authenticator as Row
from django.db import transaction

from apps.accounts.models import User
from apps.accounts.signin.factor import AllauthSecondFactor
from apps.events.models import Event
from tests.accounts.signin.authenticator import Authenticator
from tests.accounts.signin.support import EMAIL, PASSWORD, Person, incomplete, mails
from tests.core.api.support import problem

pytestmark = pytest.mark.django_db


def added(person: Person, phone: Authenticator, name: str = "Phone") -> dict[str, Any]:
    begun = person.post("passkeys/options", {})
    assert begun.status_code == 200, begun.content
    answer = person.post("passkeys", {"name": name, "credential": phone.create(begun.json()["options"])})
    assert answer.status_code == 201, answer.content
    document: dict[str, Any] = answer.json()
    return document


@pytest.fixture
def phone() -> Authenticator:
    return Authenticator()


@pytest.fixture
def ann(phone: Authenticator) -> Person:
    person = Person().sign_up()
    added(person, phone)
    return person


def step_up(person: Person, phone: Authenticator) -> Any:
    options = person.post("step-up/passkey/options").json()["options"]
    return person.post("step-up/passkey", {"credential": phone.get(options)})


def test_a_passkey_is_added_and_listed(phone: Authenticator) -> None:
    person = Person().sign_up()
    document = added(person, phone)
    assert (document["name"], document["passwordless"], document["last_used_at"]) == ("Phone", True, None)
    assert len(document.pop("recovery_codes")) == 10
    assert person.get("passkeys").json() == {"data": [document]}
    assert person.get("factors").json() == {"totp": False, "passkeys": 1, "recovery_codes_left": 10}
    user = User.objects.get()
    assert AllauthSecondFactor().enrolled(user_ids=[user.pk]) == {user.pk}
    assert (mails()[-1][0], mails()[-1][1]["factor"]) == ("factor_added", "passkey")
    assert [row.payload for row in Event.objects.filter(topic="person.factor_added")] == [
        {"factor": "passkey"}
    ]


@pytest.mark.parametrize(
    ("said", "expected"),
    [({"credProps": {"rk": True}}, True), ({"credProps": {"rk": False}}, False), ({}, False)]
    + [({"credProps": {"rk": odd}}, False) for odd in (None, 1, "yes")],
)
def test_whether_it_signs_in_alone_is_yes_or_no(phone: Authenticator, said: Any, expected: bool) -> None:
    person = Person().sign_up()
    options = person.post("passkeys/options", {}).json()["options"]
    credential = {**phone.create(options), "clientExtensionResults": said}
    answer = person.post("passkeys", {"name": "Phone", "credential": credential})
    assert (answer.status_code, answer.json().get("passwordless")) == (201, expected)
    assert person.get("passkeys").json()["data"][0]["passwordless"] is expected


@pytest.mark.parametrize("said", [None, "x", [1], {"credProps": 5}, {"credProps": None}])
def test_a_passkey_whose_extensions_are_none_is_refused_whole(phone: Authenticator, said: Any) -> None:
    person = Person().sign_up()
    options = person.post("passkeys/options", {}).json()["options"]
    credential = {**phone.create(options), "clientExtensionResults": said}
    problem(person.post("passkeys", {"name": "Phone", "credential": credential}), 400, "passkey_refused")
    assert person.get("passkeys").json() == {"data": []}


def test_it_signs_in_alone(ann: Person, phone: Authenticator) -> None:
    other = Person()
    begun = other.post("sign-in/passkey/options")
    assert begun.status_code == 200, begun.content
    options = begun.json()["options"]
    # Says nothing of anybody.
    assert options["publicKey"].get("allowCredentials", []) == []
    credential = phone.get(options)
    answer = other.post("sign-in/passkey", {"credential": credential})
    assert answer.status_code == 200, answer.content
    assert answer.json()["user"]["email"] == EMAIL
    assert other.get("passkeys").json()["data"][0]["last_used_at"] is not None
    # The answer to one question is not that to another.
    replay = Person()
    replay.post("sign-in/passkey/options")
    problem(replay.post("sign-in/passkey", {"credential": credential}), 400, "passkey_refused")


def test_after_the_password_it_is_the_second_factor(ann: Person, phone: Authenticator) -> None:
    other = Person()
    document = incomplete(other.sign_in(), "mfa_authenticate")
    assert document["flows"][0]["types"] == ["recovery_codes", "webauthn"]
    options = other.post("sign-in/factor/passkey/options").json()["options"]
    assert len(options["publicKey"]["allowCredentials"]) == 1
    stranger = Authenticator(credential_id=phone.credential_id, user_handle=phone.user_handle)
    problem(
        other.post("sign-in/factor/passkey", {"credential": stranger.get(options)}), 400, "passkey_refused"
    )
    answer = other.post("sign-in/factor/passkey", {"credential": phone.get(options)})
    assert answer.status_code == 200, answer.content


def test_another_sites_page_cannot_use_it(ann: Person, phone: Authenticator) -> None:
    other = Person()
    options = other.post("sign-in/passkey/options").json()["options"]
    phone.origin = "https://testserver.evil.example"
    problem(other.post("sign-in/passkey", {"credential": phone.get(options)}), 400, "passkey_refused")


@pytest.mark.parametrize(
    "credential",
    [
        {},
        {"id": 5},
        {"id": "x", "rawId": "x", "type": "public-key", "response": {}},
        {"id": "x", "rawId": "x", "type": "public-key", "response": []},
        {"response": {"userHandle": "AAAA"}},
        {"id": "AA", "rawId": "AA", "type": "public-key", "clientExtensionResults": {}, "response": {
            "clientDataJSON": "AA", "authenticatorData": "AA", "signature": "AA", "userHandle": "////",
        }},
        {"id": "AA", "rawId": "AA", "type": "public-key", "clientExtensionResults": {}, "response": {
            "clientDataJSON": "e30", "attestationObject": "oA",
        }},
    ],
)  # fmt: skip
def test_what_is_no_passkeys_answer_is_refused(ann: Person, credential: dict[str, Any]) -> None:
    other = Person()
    other.post("sign-in/passkey/options")
    refused = [other.post("sign-in/passkey", {"credential": credential})]
    ann.post("step-up/passkey/options")
    refused.append(ann.post("step-up/passkey", {"credential": credential}))
    fresh = Person("203.0.113.5").sign_up("bob@example.org")
    fresh.post("passkeys/options", {})
    refused.append(fresh.post("passkeys", {"name": "x", "credential": credential}))
    for answer in refused:
        document = answer.json()
        assert (answer.status_code, document["code"]) in (
            (400, "passkey_refused"),
            (400, "validation_failed"),
        ), document
    assert Row.objects.filter(type="webauthn").count() == 1


def test_a_step_up_by_passkey_opens_what_wants_one_and_gives_a_code_for_a_withdrawal(
    ann: Person, phone: Authenticator, later: Callable[[float], None]
) -> None:
    later(301)
    problem(ann.post("step-up", {"password": PASSWORD}), 403, "second_factor_required")
    problem(ann.post("passkeys/options", {}), 401, "reauthentication_required")
    answer = step_up(ann, phone)
    assert answer.status_code == 200, answer.content
    document = answer.json()
    assert document["expires_in"] == 120
    assert ann.post("passkeys/options", {}).status_code == 200
    user = User.objects.get()
    for code, right in (("0" * 8, False), (document["code"], True), (document["code"], False)):
        with transaction.atomic():
            found = AllauthSecondFactor().verify(user_id=user.pk, code=code, purpose="withdrawal")
        assert found is right


def test_it_is_renamed_and_removed(ann: Person, phone: Authenticator) -> None:
    row = Row.objects.get(type="webauthn")
    problem(ann.send("PATCH", f"passkeys/{row.pk}", {"name": "x"}), 401, "reauthentication_required")
    problem(ann.delete(f"passkeys/{row.pk}"), 401, "reauthentication_required")
    assert step_up(ann, phone).status_code == 200
    answer = ann.send("PATCH", f"passkeys/{row.pk}", {"name": "Old phone"})
    assert (answer.status_code, answer.json()["name"]) == (200, "Old phone")

    assert ann.delete(f"passkeys/{row.pk}").status_code == 204

    assert ann.get("passkeys").json() == {"data": []}
    assert Row.objects.count() == 0
    assert (mails()[-1][0], mails()[-1][1]["factor"]) == ("factor_removed", "passkey")
    other = Person()
    options = other.post("sign-in/passkey/options").json()["options"]
    problem(other.post("sign-in/passkey", {"credential": phone.get(options)}), 400, "passkey_refused")
    assert Person().sign_in().status_code == 200


def test_a_passkey_of_somebody_else_is_not_there(ann: Person) -> None:
    row = Row.objects.get(type="webauthn")
    bob = Person("203.0.113.5").sign_up("bob@example.org")
    problem(bob.send("PATCH", f"passkeys/{row.pk}", {"name": "x"}), 404, "not_found")
    problem(bob.delete(f"passkeys/{row.pk}"), 404, "not_found")
    assert bob.get("passkeys").json() == {"data": []}
    assert Row.objects.get(pk=row.pk).wrap().name == "Phone"
