"""What the provider says: believed when signed, fresh and new; a bounce or complaint stops the address."""

import base64
import json
import time
from typing import Any

import pytest
from django.test import Client
from standardwebhooks.webhooks import hmac_data

from apps.accounts.models import User
from apps.core import clock
from apps.mail.models import Message, ProviderEvent, Suppression
from apps.mail.selectors import suppressed
from tests.mail.support import code_queue, deposit_queue, send_all, state_of

pytestmark = pytest.mark.django_db

OLD, NEW = "whsec_b2xkLXNlY3JldC1vZi10aGUtdGVzdHM=", "whsec_bmV3LXNlY3JldC1vZi10aGUtdGVzdHM="
URL = "/api/v1/mail/webhooks/resend"


@pytest.fixture(autouse=True)
def secrets_of_webhooks(settings: Any) -> None:
    settings.RESEND_WEBHOOK_SECRETS = [NEW, OLD]


def sent_message(to: str = "ann@example.com") -> Message:
    message = deposit_queue(f"e:{to}:d", to)
    Message.objects.filter(pk=message.pk).update(
        state="sent", provider_id=f"resend-{to}", sent_at=clock.now()
    )
    return message


def event_of(message: Message, kind: str = "email.bounced", **bounce: str) -> bytes:
    data: dict[str, Any] = {"email_id": f"resend-{message.to}", "to": [message.to], "subject": "x"}
    if kind == "email.bounced":
        data["bounce"] = {"message": "sent a hard bounce message", "type": "Permanent", **bounce}
    return json.dumps({"type": kind, "created_at": "2026-11-21T10:00:00Z", "data": data}).encode()


def signed(body: bytes, *, secret: str = NEW, at: float | None = None, name: str = "msg_1") -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac_data(key, f"{name}.{stamp}.".encode() + body)).decode()
    return {"svix-id": name, "svix-timestamp": stamp, "svix-signature": f"v1,{signature}"}


def post(client: Client, body: bytes, headers: dict[str, str]) -> Any:
    return client.post(URL, body, content_type="application/json", headers=headers)


def test_a_bounce_stops_everything_to_the_address(client: Client) -> None:
    message = sent_message("Ann@example.com")

    body = event_of(message)
    answer = post(client, body, signed(body))

    assert answer.status_code == 204
    (row,) = suppressed("ann@example.com")
    assert (row.reason, row.message_id) == ("bounce", message.pk)
    later = code_queue("e2:ann:code", "ANN@example.com")
    send_all()
    found = Message.objects.get(pk=later.pk)
    assert (found.state, found.suppressed_for, found.secret) == ("suppressed", "address", None)


def test_a_complaint_stops_all_but_what_is_essential(client: Client) -> None:
    message = sent_message()

    body = event_of(message, "email.complained")
    post(client, body, signed(body))

    optional, code = deposit_queue("e2:ann:d"), code_queue("e3:ann:code")
    send_all()
    assert [state_of(optional), state_of(code)] == ["suppressed", "sent"]


@pytest.mark.parametrize(
    "kind", ["email.bounced", "email.delivered", "email.delivery_delayed", "email.opened"]
)
def test_what_is_not_final_stops_nothing(client: Client, kind: str) -> None:
    message = sent_message()

    body = event_of(message, kind, type="Transient")
    answer = post(client, body, signed(body))

    assert answer.status_code == 204
    assert ProviderEvent.objects.get().message_id == message.pk
    assert suppressed(message.to) == []


def test_the_old_secret_still_signs_during_a_rotation(client: Client, settings: Any) -> None:
    message = sent_message()

    body = event_of(message)
    assert post(client, body, signed(body, secret=OLD)).status_code == 204

    settings.RESEND_WEBHOOK_SECRETS = [NEW]
    assert post(client, body, signed(body, secret=OLD, name="msg_2")).status_code == 400


@pytest.mark.parametrize(
    "damage",
    [
        "unsigned",
        "other secret",
        "changed body",
        "changed id",
        "too old",
        "too new",
        "no version",
        "not base64",
        "not a time",
        "long id",
    ],
)
def test_what_is_not_signed_now_by_the_provider_changes_nothing(client: Client, damage: str) -> None:
    message = sent_message()
    body = event_of(message)
    headers = signed(body)
    if damage == "unsigned":
        headers = {}
    elif damage == "other secret":
        headers = signed(body, secret="whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldA==")
    elif damage == "changed body":
        body += b" "  # the same JSON, other bytes
    elif damage == "changed id":
        headers["svix-id"] = "msg_2"
    elif damage == "too old":
        headers = signed(body, at=time.time() - 301)
    elif damage == "too new":
        headers = signed(body, at=time.time() + 310)
    elif damage == "no version":
        headers["svix-signature"] = headers["svix-signature"].removeprefix("v1,")
    elif damage == "not base64":
        headers["svix-signature"] = "v1,é"
    elif damage == "not a time":
        headers["svix-timestamp"] = "nan"
    else:
        headers = signed(body, name="m" * 201)

    answer = post(client, body, headers)

    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert (ProviderEvent.objects.count(), Suppression.objects.count()) == (0, 0)


def test_a_repeated_event_is_taken_once(client: Client) -> None:
    message = sent_message()
    body = event_of(message)
    headers = signed(body)
    assert post(client, body, headers).status_code == 204
    Suppression.objects.update(released_at=clock.now())

    assert post(client, body, headers).status_code == 204

    assert ProviderEvent.objects.count() == 1
    assert suppressed(message.to) == []


def test_signed_nonsense_is_refused_and_somebody_elses_mail_stops_nothing(client: Client) -> None:
    for number, body in enumerate([b"[]", b"{}", b"\xff", b'{"type": "email.bounced", "data": 7}', b"null"]):
        assert post(client, body, signed(body, name=f"msg_{number}")).status_code == 400
    stranger = json.dumps(
        {
            "type": "email.bounced",
            "data": {"email_id": "other", "to": ["bob@example.com"], "bounce": {"message": ""}},
        }
    ).encode()

    assert post(client, stranger, signed(stranger)).status_code == 204

    assert suppressed("bob@example.com") == []


def test_without_a_secret_there_is_no_such_page(client: Client, settings: Any) -> None:
    settings.RESEND_WEBHOOK_SECRETS = []
    body = event_of(sent_message())

    answer = post(client, body, signed(body))

    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert client.get(URL).status_code == 405


def test_an_operator_releases_an_address_and_it_is_logged(client: Client) -> None:
    message = sent_message()
    body = event_of(message)
    post(client, body, signed(body))
    operator = User.objects.create(email="op@example.org", is_staff=True, is_superuser=True)
    client.force_login(operator)
    row = Suppression.objects.get()

    client.post("/admin/mail/suppression/", {"action": "release", "_selected_action": [str(row.pk)]})

    assert suppressed(message.to) == []
    assert operator.logentry_set.get().object_id == str(row.pk)
    again = deposit_queue("e9:ann:d")
    send_all()
    assert state_of(again) == "sent"
