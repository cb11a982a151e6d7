"""What operators see: the gallery, messages without their secrets, dead letters and a second try."""

import pytest
from django.test import Client
from django.utils.html import escape

from apps.accounts.models import User
from apps.core import clock
from apps.mail.catalogue import TEMPLATES
from apps.mail.models import Letter, Message
from tests.mail.support import code_queue, deposit_queue, send_all, state_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create(email="op@example.org", is_staff=True, is_superuser=True))
    return client


def test_the_gallery_shows_all_letters_with_real_data_and_made_up_codes(operator: Client) -> None:
    deposit_queue()
    code_queue()

    page = operator.get("/admin/mail/message/gallery/")

    assert page.status_code == 200
    assert all(escape(template.title) in page.text for template in TEMPLATES.values())
    assert page.text.count("real, ") == 2
    one = operator.get("/admin/mail/message/gallery/deposit_credited/html/")
    assert "12.5 USDC" in one.text
    assert "1250.5" in operator.get("/admin/mail/message/gallery/deposit_credited/html/?with=sample").text
    code = operator.get("/admin/mail/message/gallery/code/text/")
    assert (code["Content-Type"], "402913" in code.text, "739154" in code.text) == (
        "text/plain; charset=utf-8",
        True,
        False,
    )
    assert operator.get("/admin/mail/message/gallery/nothing/html/").status_code == 404
    assert operator.get("/admin/mail/message/gallery/code/pdf/").status_code == 404


def test_the_gallery_is_for_who_may_see_messages() -> None:
    client = Client()
    client.force_login(User.objects.create(email="staff@example.org", is_staff=True))

    assert client.get("/admin/mail/message/gallery/").status_code == 403
    assert client.get("/admin/mail/message/gallery/code/html/").status_code == 403
    assert Client().get("/admin/mail/message/gallery/").status_code == 302


def test_a_message_shows_no_secret_and_the_mailbox_what_was_sent(operator: Client) -> None:
    message = code_queue()
    assert "739154" not in operator.get(f"/admin/mail/message/{message.pk}/change/").text

    send_all()

    assert "739154" not in operator.get(f"/admin/mail/message/{message.pk}/change/").text
    letter = Letter.objects.get()
    assert "739154" in operator.get(f"/admin/mail/letter/{letter.pk}/change/").text


def test_a_dead_letter_is_found_and_tried_again(operator: Client) -> None:
    message = deposit_queue()
    Message.objects.update(buried_at=clock.now(), last_error="the provider said 422")
    assert "the provider said 422" in operator.get("/admin/mail/message/?dead=yes").text

    operator.post("/admin/mail/message/", {"action": "send_again", "_selected_action": [str(message.pk)]})
    send_all()

    assert state_of(message) == "sent"
