"""Every operation of the API, as the OpenAPI document has it, with a request that succeeds: its story.

`tests/core/api/test_walks.py` and `test_examples.py` ask each operation by its story and fail for one that has none
and needs one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from drf_spectacular.generators import SchemaGenerator

from apps.accounts.signin.models import SignInMark
from apps.launch.domain import State
from apps.launch.states import state_set
from apps.launch.waitlist import entry_join
from tests.accounts.signin.authenticator import Authenticator
from tests.accounts.signin.provider import proof_kept
from tests.accounts.signin.support import OTHER, PASSWORD, Person, code_sent
from tests.accounts.tokens.support import sign_in
from tests.core.api.support import ApiClient
from tests.core.api.town import CODE, OUTSIDE, Town
from tests.launch.support import code_sent as waitlist_code
from tests.launch.support import waiting

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

EMAIL = "ada@example.org"
ANOTHER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
_SCHEDULE = {
    "kind": "daily",
    "at": "09:00",
    "time_zone": "Europe/Berlin",
    "start_at": "2030-03-30T00:00:00+01:00",
}
_PLAN = {
    "name": "Ether every morning",
    "market": "USDC/WETH",
    "amount": "100",
    "total_budget": "5000",
    "price_max": "4000",
    "max_slippage_bps": 50,
    "schedule": _SCHEDULE,
}


@dataclass(frozen=True)
class Story:
    """What is asked. `before` brings the town to where the request makes sense.

    It may answer other ids, other values of the body's (`body`), headers and query parameters by their names, and who
    sends it (`client`).
    """

    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[Town], Mapping[str, Any]] = lambda _: {}


def _paused(town: Town) -> dict[str, Any]:
    from apps.plans.services import plan_pause

    plan = town.plan()
    plan_pause(owner_id=town.ann.pk, plan_id=plan.pk)
    return {"plan_id": plan.pk}


def _unused(town: Town) -> dict[str, Any]:
    from apps.withdrawals.services import destination_add

    row = destination_add(user_id=town.ann.pk, address="0x" + "12" * 20, label="Old wallet")
    return {"destination_id": row.pk}


def _client(person: Person) -> dict[str, Any]:
    return {"client": ApiClient(person.access)}


def _signed_up(_: Town) -> dict[str, Any]:
    return _client(Person().sign_up(EMAIL))


def _account(_: Town) -> dict[str, Any]:
    """Somebody who may sign in."""
    Person().sign_up(EMAIL)
    return {}


def _factor_before(_: Town) -> dict[str, Any]:
    return _client(_with_app())


def _proved_again(_: Town) -> dict[str, Any]:
    person = _with_app()
    assert person.post("step-up", {"code": person.totp()}).status_code == 204
    return _client(person)


def _with_app() -> Person:
    person = Person().sign_up(EMAIL)
    person.totp_add()
    return person


def _flow(person: Person, **body: Any) -> dict[str, Any]:
    return {"client": ApiClient(), "X-Session-Token": person.flow, **({"body": body} if body else {})}


def _unproved(_: Town) -> dict[str, Any]:
    person = Person()
    person.post("sign-up", {"email": EMAIL, "password": PASSWORD})
    return _flow(person, code=code_sent(to=EMAIL))


def _with_passkey() -> tuple[Person, Authenticator]:
    person, phone = Person().sign_up(EMAIL), Authenticator()
    options = person.post("passkeys/options", {}).json()["options"]
    assert person.post("passkeys", {"name": "Phone", "credential": phone.create(options)}).status_code == 201
    return person, phone


def _passkey_kept(_: Town) -> dict[str, Any]:
    person, phone = _with_passkey()
    options = person.post("step-up/passkey/options").json()["options"]
    assert person.post("step-up/passkey", {"credential": phone.get(options)}).status_code == 200
    return {**_client(person), "passkey_id": person.get("passkeys").json()["data"][0]["id"]}


def _passkey_begun(_: Town) -> dict[str, Any]:
    person = Person().sign_up(EMAIL)
    options = person.post("passkeys/options", {}).json()["options"]
    return {**_client(person), "body": {"credential": Authenticator().create(options)}}


def _passkey_alone(_: Town) -> dict[str, Any]:
    (_owner, phone), person = _with_passkey(), Person()
    return _flow(person, credential=phone.get(person.post("sign-in/passkey/options").json()["options"]))


def _at_the_passkey(_: Town) -> dict[str, Any]:
    _with_passkey()
    person = Person()
    person.sign_in(EMAIL)
    return _flow(person)


def _passkey_second(_: Town) -> dict[str, Any]:
    (_owner, phone), person = _with_passkey(), Person()
    person.sign_in(EMAIL)
    options = person.post("sign-in/factor/passkey/options").json()["options"]
    return _flow(person, credential=phone.get(options))


def _passkey_step_up(_: Town) -> dict[str, Any]:
    return _client(_with_passkey()[0])


def _passkey_stepping_up(_: Town) -> dict[str, Any]:
    person, phone = _with_passkey()
    options = person.post("step-up/passkey/options").json()["options"]
    return {**_client(person), "body": {"credential": phone.get(options)}}


def _at_the_factor(_: Town) -> dict[str, Any]:
    app, person = _with_app(), Person()
    person.sign_in(EMAIL)
    return _flow(person, code=app.totp())


def _forgot(_: Town) -> dict[str, Any]:
    _account(_)
    person = Person()
    person.post("password/forgot", {"email": EMAIL})
    return _flow(person, code=code_sent("password_reset_code", to=EMAIL))


def _app_begun(_: Town) -> dict[str, Any]:
    person = Person().sign_up(EMAIL)
    person.secret = person.post("factors/totp").json()["secret"]
    return {**_client(person), "body": {"code": person.totp()}}


def _email_begun(_: Town) -> dict[str, Any]:
    person = Person().sign_up(EMAIL)
    person.post("email", {"email": "ada@example.net"})
    return {**_client(person), "body": {"code": code_sent(to="ada@example.net")}}


def _step_up(_: Town) -> dict[str, Any]:
    person = _with_app()
    return {**_client(person), "body": {"code": person.totp()}}


def _pause_over(done: Mapping[str, Any]) -> Mapping[str, Any]:
    """As after the half minute that no other mail is sent in."""
    SignInMark.objects.all().delete()
    return done


def _google(town: Town, email: str = EMAIL) -> dict[str, str]:
    """What Google's button gives the frontend, with the proof that its nonce was asked for."""
    assert town.google is not None
    token = town.google.id_token(email=email)
    return {"id_token": token, "proof": proof_kept(token)}


def _by_google(town: Town) -> dict[str, Any]:
    """Somebody whose way in is Google alone."""
    person = Person()
    assert person.post("sign-in/google", _google(town)).status_code == 200
    return {**_client(person), "body": _google(town)}


def _connected(town: Town) -> dict[str, Any]:
    person = Person().sign_up(EMAIL)
    assert person.post("connections/google", _google(town)).status_code == 204
    return _client(person)


def _refresh(town: Town) -> dict[str, Any]:
    return {"client": ApiClient(), "body": {"refresh_token": sign_in(town.ann).refresh_token}}


def _pre_launch(_: Town) -> dict[str, Any]:
    state_set(state=State.PRE_LAUNCH, reason="The walk of all operations", actor="op@example.org")
    return {}


def _joined(town: Town) -> dict[str, Any]:
    _pre_launch(town)
    entry_join(email=EMAIL)
    return {"body": {"code": waitlist_code(EMAIL)}}


def _waiting(town: Town) -> dict[str, Any]:
    _pre_launch(town)
    return {"X-Waitlist-Ticket": waiting(EMAIL).ticket}


_ID_TOKEN = {
    "id_token": "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiIxIn0.c2ln",
    "proof": "p0OQv1sTn2mW9cZxJkR3yg:1vKZ3q:Zl9gN4sBq2uXw8dTm5cRj7hPy1eVk0oLa6iUf3xQnYs",
}
_ID = "hCqWwRkQ0m2Sx0mB1p3cZg"
_CREDENTIAL = {"id": _ID, "rawId": _ID, "type": "public-key", "clientExtensionResults": {}}
_ASSERTION = {
    **_CREDENTIAL,
    "response": {
        "clientDataJSON": "eyJ0eXBlIjoid2ViYXV0aG4uZ2V0In0",
        "authenticatorData": "SZYN5YgO",
        "signature": "MEUC",
        "userHandle": "MDE5YjM",
    },
}
_ATTESTATION = {
    **_CREDENTIAL,
    "clientExtensionResults": {"credProps": {"rk": True}},
    "response": {"clientDataJSON": "eyJ0eXBlIjoid2ViYXV0aG4uY3JlYXRlIn0", "attestationObject": "o2NmbXRk"},
}

# A body is what the document shows. Codes, credentials and tokens in it are nobody's: `before` answers the true ones.
STORIES: dict[str, Story] = {
    "auth_connections_list": Story(before=_connected),
    "auth_email_read": Story(before=_signed_up),
    "auth_email_change": Story({"email": "ada@example.net"}, before=_signed_up),
    "auth_email_confirm": Story({"code": "492817"}, before=_email_begun),
    "auth_factors_read": Story(before=_factor_before),
    "auth_flow_read": Story(before=_unproved),
    "auth_flow_abandon": Story(before=_unproved),
    "auth_email_resend": Story(before=lambda town: _pause_over(_email_begun(town))),
    "auth_google": Story(_ID_TOKEN, before=lambda town: {"body": _google(town)}),
    "auth_google_connect": Story(_ID_TOKEN, before=lambda town: {**_signed_up(town), "body": _google(town)}),
    "auth_google_disconnect": Story(before=_connected),
    "auth_passkeys_add": Story({"name": "Phone", "credential": _ATTESTATION}, before=_passkey_begun),
    "auth_passkeys_options": Story({"passwordless": True}, before=_signed_up),
    "auth_passkeys_rename": Story({"name": "Old phone"}, before=_passkey_kept),
    "auth_passkeys_remove": Story(before=_passkey_kept),
    "auth_password_change": Story({"current_password": PASSWORD, "new_password": OTHER}, before=_signed_up),
    "auth_password_forgot": Story({"email": EMAIL}, before=_account),
    "auth_password_reset": Story({"code": "KWPD-TRXB", "password": OTHER}, before=_forgot),
    "auth_recovery_codes_make": Story(before=_proved_again),
    "auth_refresh": Story({"refresh_token": "trr_k3v…"}, before=_refresh),
    "auth_sign_in": Story({"email": EMAIL, "password": PASSWORD}, before=_account),
    "auth_sign_in_factor": Story({"code": "492817"}, before=_at_the_factor),
    "auth_sign_in_factor_passkey": Story({"credential": _ASSERTION}, before=_passkey_second),
    "auth_sign_in_passkey": Story({"credential": _ASSERTION}, before=_passkey_alone),
    "auth_sign_up": Story({"email": EMAIL, "password": PASSWORD}),
    "auth_step_up": Story({"code": "492817"}, before=_step_up),
    "auth_sign_in_factor_passkey_options": Story(before=_at_the_passkey),
    "auth_step_up_passkey_options": Story(before=_passkey_step_up),
    "auth_step_up_google": Story(_ID_TOKEN, before=_by_google),
    "auth_step_up_passkey": Story({"credential": _ASSERTION}, before=_passkey_stepping_up),
    "auth_totp_begin": Story(before=_signed_up),
    "auth_totp_confirm": Story({"code": "492817"}, before=_app_begun),
    "auth_totp_remove": Story(before=_proved_again),
    "auth_verify": Story({"code": "492817"}, before=_unproved),
    "auth_verify_resend": Story(before=lambda town: _pause_over(_unproved(town))),
    "me_close": Story({"email": EMAIL}, before=_signed_up),
    "preferences_change": Story({"digest": True, "mails": {"buy_done": False}}),
    "sessions_revoke_all": Story(before=_signed_up),
    "sessions_revoke": Story(before=lambda town: {"session_id": sign_in(town.ann).session_id}),
    "waitlist_join": Story({"email": EMAIL, "language": "en"}, before=_pre_launch),
    "waitlist_confirm": Story({"email": EMAIL, "code": "204815"}, before=_joined),
    "waitlist_position": Story(before=_waiting),
    "waitlist_leave": Story(before=_waiting),
    "api_keys_create": Story({"name": "Accounting", "scopes": ["balances:read", "plans:read"]}),
    "fees_quote": Story({"market": "USDC/WETH", "amount": "100"}),
    "plans_create": Story(_PLAN),
    "plans_update": Story(
        {"version": 1, "amount": "150", "price_max": None, "schedule": {"at": "18:30", "max_runs": 30}},
        before=lambda town: {"plan_id": town.plan().pk},
    ),
    "plans_preview_new": Story(_PLAN, {"count": "3"}),
    "plans_preview": Story(query={"count": "3"}),
    "plans_resume": Story(before=_paused),
    "withdrawal_destinations_create": Story(
        {"address": "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "label": "Cold wallet"}
    ),
    "withdrawals_create": Story({"asset": "USDC", "amount": "100", "destination": OUTSIDE, "max_fee": "5"}),
    "withdrawal_destinations_delete": Story(before=_unused),
    "statement_list": Story(query={"asset": "USDC"}),
    "withdrawals_quote": Story({"asset": "USDC", "amount": "100"}),
    "withdrawals_confirm": Story({"code": CODE}),
}


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    name: str
    method: str
    path: str
    document: Mapping[str, Any]

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def status(self) -> str:
        """What a success is answered with; 401 where all that can be is that another step is needed."""
        return next((str(one) for one in self.document["responses"] if one.startswith("2")), "401")

    @property
    def takes(self) -> set[str]:
        """Which credentials."""
        return {name for one in self.document.get("security", ()) for name in one}

    @property
    def writes(self) -> bool:
        return self.method in ("POST", "PUT", "PATCH")

    @property
    def story(self) -> Story:
        """Its own, or none when nothing but ids is needed to ask."""
        return STORIES.get(self.name, Story())

    @property
    def needs_story(self) -> bool:
        return "requestBody" in self.document

    def send(self, town: Town, *, stranger: bool = False, body: Any = ..., ready: bool = False) -> "Answer":
        """As the story tells it, by Ann or by the stranger.

        `ready` says that the ids are those of the town, whatever the story needs before.
        """
        values = {**town.ids, **({} if ready else self.story.before(town))}
        if stranger:
            # A link's signature lets in whoever has it: a stranger has to guess.
            values["signature"] = "x" * len(town.ids["signature"])
        path = re.sub(r"{(\w+)}", lambda found: str(values[found[1]]), self.path)
        sent = self.story.body if body is ... else body
        if body is ... and sent is not None and "body" in values:
            sent = {**self.story.body, **values["body"]}
        parameters = self.document.get("parameters", ())
        headers, query = (
            {
                one["name"]: str(values[one["name"]])
                for one in parameters
                if one["in"] == place and one["name"] in values
            }
            for place in ("header", "query")
        )
        if any(one["name"] == "Idempotency-Key" for one in parameters):
            headers["Idempotency-Key"] = f"story-{self.name}"
        client = values.get("client") if not stranger else None
        answer = (client or self._client(town, stranger)).send(
            self.method, path, body=sent, query={**self.story.query, **query} or None, headers=headers
        )
        if answer.streaming:
            # A file, open until its last byte; the test client then spares the connection, `close()` would not.
            b"".join(answer.streaming_content)  # type: ignore[union-attr]
        return answer

    def _client(self, town: Town, stranger: bool) -> ApiClient:
        if not self.takes:
            return ApiClient()
        if "ApiKey" not in self.takes:
            return town.strangers_session if stranger else town.session
        return town.stranger if stranger else town.client


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


@cache
def operations() -> list[Operation]:
    return [
        Operation(found["operationId"], method.upper(), path, found)
        for path, methods in document()["paths"].items()
        for method, found in methods.items()
    ]


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema with its reference followed."""
    while True:
        reference = schema.get("$ref") or next(
            (one["$ref"] for one in schema.get("allOf", ()) if "$ref" in one), ""
        )
        if not reference:
            return schema
        schema = document()["components"]["schemas"][reference.rpartition("/")[2]]
