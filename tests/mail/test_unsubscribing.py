"""RFC 8058: the link asks, the button does it, without a login and for good."""

from typing import Any

import pytest
from django.test import Client

from apps.mail.models import Unsubscription
from apps.mail.suppressing import address_resubscribe, unsubscribe_listen
from apps.mail.unsubscribing import unsubscribe_token
from tests.mail.resend import Resend
from tests.mail.support import code_queue, deposit_queue, send_all, state_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return Client(enforce_csrf_checks=True)


def link_in(resend: Resend) -> str:
    url: str = resend.calls[0][1]["headers"]["List-Unsubscribe"].strip("<>")
    return url.removeprefix("http://127.0.0.1:8000")


def test_one_click_stops_the_kind_for_mails_that_are_queued_already(client: Client, resend: Resend) -> None:
    deposit_queue()
    send_all()
    queued = deposit_queue("e2:ann:d", "ANN@example.com")

    answer = client.post(
        link_in(resend), "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"
    )

    assert (answer.status_code, answer.cookies.output()) == (200, "")
    code = code_queue()
    send_all()
    assert [state_of(queued), state_of(code)] == ["suppressed", "sent"]
    row = Unsubscription.objects.get()
    assert (row.address, row.kind) == ("ann@example.com", "deposit_credited")


def test_looking_at_the_page_changes_nothing(
    client: Client, resend: Resend, caplog: pytest.LogCaptureFixture
) -> None:
    deposit_queue()
    send_all()

    answer = client.get(link_in(resend))

    assert answer.status_code == 200
    assert "deposits that arrived" in answer.text
    assert "script" not in answer.text
    assert client.head(link_in(resend)).status_code == 200
    assert Unsubscription.objects.count() == 0
    # Nor is the link in a log.
    assert "GET /mail/unsubscribe/…" in caplog.text
    assert link_in(resend).rpartition("/")[2] not in caplog.text


def test_a_second_press_and_everything(client: Client, resend: Resend) -> None:
    message = deposit_queue()
    send_all()
    told: list[tuple[str, frozenset[str]]] = []
    unsubscribe_listen(lambda address, kinds: told.append((address, kinds)))
    link = link_in(resend)

    for what in ("kind", "kind", "everything"):
        assert client.post(link, {"what": what}).status_code == 200

    assert told[0] == ("ann@example.com", frozenset({"deposit_credited"}))
    assert len(told[2][1]) == 6
    assert Unsubscription.objects.count() == 7
    address_resubscribe(address=message.to, kinds=["deposit_credited"])
    again = deposit_queue("e3:ann:d")
    send_all()
    assert state_of(again) == "sent"


@pytest.mark.parametrize("form", ["nothing", "other", "essential", "cut"])
def test_a_link_that_we_did_not_sign_does_nothing(client: Client, form: str) -> None:
    essential, optional = code_queue(), deposit_queue("e2:ann:d")
    token = {
        "nothing": "x",
        "other": unsubscribe_token(optional.pk).replace(":", ":a", 1),
        "essential": unsubscribe_token(essential.pk),
        "cut": unsubscribe_token(optional.pk)[:-3],
    }[form]

    for answer in (client.get(f"/mail/unsubscribe/{token}"), client.post(f"/mail/unsubscribe/{token}")):
        assert answer.status_code == 404
        assert "does not work" in answer.text
    assert Unsubscription.objects.count() == 0


@pytest.fixture(autouse=True)
def no_listeners(monkeypatch: Any) -> None:
    monkeypatch.setattr("apps.mail.suppressing._listeners", [])
