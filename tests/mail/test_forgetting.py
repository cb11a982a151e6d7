"""What is old is forgotten, a bounded number at a time; what suppression and idempotency need stays."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client

from apps.core import clock, work
from apps.mail import kinds
from apps.mail.domain import ProviderEventKind, SuppressionReason
from apps.mail.forgetting import mail_forget
from apps.mail.models import Letter, Message, ProviderEvent, Suppression
from apps.mail.selectors import suppressed
from apps.mail.suppressing import ProviderNews, address_suppress, provider_news_take
from apps.mail.unsubscribing import message_of_token, unsubscribe_token
from config.settings import common
from tests.mail.support import code_queue, deposit_queue, send_all

pytestmark = pytest.mark.django_db


def age(days: float, **which: Any) -> None:
    """Make rows older than they are."""
    by = timedelta(days=days)
    for row in Message.objects.filter(**which):
        buried_at = row.buried_at and row.buried_at - by
        Message.objects.filter(pk=row.pk).update(created_at=row.created_at - by, buried_at=buried_at)


def test_an_old_mail_is_forgotten_but_for_its_key(settings: Any) -> None:
    deposit_queue("e1:ann:deposit_credited")
    send_all()
    age(91)
    deposit_queue("e2:ann:deposit_credited")
    send_all()
    old, young = Message.objects.order_by("key")
    assert Letter.objects.count() == 2

    assert mail_forget() == 1

    old.refresh_from_db()
    assert (old.to, old.context, old.state, old.key) == ("", {}, "sent", "e1:ann:deposit_credited")
    assert list(Letter.objects.values_list("message_id", flat=True)) == [young.pk]
    assert Message.objects.get(pk=young.pk).to == "ann@example.com"
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM mail_message WHERE mail_message::text LIKE '%ann@example%'")
        assert cursor.fetchone() == (1,)
    assert mail_forget() == 0
    # What was told is not told again.
    deposit_queue("e1:ann:deposit_credited")
    send_all()
    assert Letter.objects.count() == 1


def test_what_waits_is_kept_and_an_old_dead_letter_is_given_up(settings: Any) -> None:
    waiting, dead = code_queue("e1:ann:code"), code_queue("e2:bob:code", "bob@example.com")
    Message.objects.filter(pk=dead.pk).update(buried_at=clock.now(), last_error="the provider said 422")
    assert mail_forget() == 0
    age(91)

    assert mail_forget() == 2

    row = Message.objects.get(pk=dead.pk)
    assert (row.state, row.suppressed_for, row.to, row.secret) == ("suppressed", "expired", "", None)
    assert (row.buried_at, row.last_error, row.context) == (None, "", {})
    assert work.dead_letters(name=kinds.SEND_WORK.name) == []
    kept = Message.objects.get(pk=waiting.pk)
    assert (kept.state, kept.to) == ("queued", "ann@example.com")
    assert kept.secret is not None


def test_providers_words_go_and_what_they_led_to_stays(settings: Any) -> None:
    deposit_queue()
    send_all()
    Message.objects.update(provider_id="resend-1")
    news = ProviderNews("resend", "evt-1", ProviderEventKind.BOUNCED, "ann@example.com", "resend-1")
    assert provider_news_take(news)
    age(91)
    ProviderEvent.objects.update(received_at=clock.now() - timedelta(days=91))

    assert mail_forget() == 2

    assert ProviderEvent.objects.count() == 0
    assert [row.reason for row in suppressed("ann@example.com")] == ["bounce"]


def test_a_complaint_about_a_forgotten_mail_stops_the_address_that_it_names(settings: Any) -> None:
    deposit_queue()
    send_all()
    Message.objects.update(provider_id="resend-1")
    age(91)
    mail_forget()

    assert provider_news_take(
        ProviderNews("resend", "evt-1", ProviderEventKind.COMPLAINED, "Ann@example.com", "resend-1")
    )

    assert list(Suppression.objects.values_list("address", "reason")) == [("ann@example.com", "complaint")]


def test_a_link_of_a_forgotten_mail_unsubscribes_nobody(client: Client) -> None:
    message = deposit_queue()
    send_all()
    token = unsubscribe_token(message.pk)
    assert message_of_token(token) is not None
    age(91)
    mail_forget()

    assert message_of_token(token) is None
    assert client.get(f"/mail/unsubscribe/{token}").status_code == 404


def test_a_run_is_bounded_and_the_next_one_goes_on(django_assert_num_queries: Any) -> None:
    for number in range(5):
        deposit_queue(f"e{number}:p:d", f"p{number}@example.com")
    send_all()
    age(91)
    address_suppress(address="p0@example.com", reason=SuppressionReason.MANUAL)

    with django_assert_num_queries(3):
        assert mail_forget(limit=3) == 3
    assert mail_forget(limit=3) == 2
    assert mail_forget(limit=3) == 0
    assert Suppression.objects.count() == 1


def test_less_than_a_month_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_KEPT_DAYS", "29")
    with pytest.raises(ImproperlyConfigured, match="at least 30"):
        common.mail_kept_days()
