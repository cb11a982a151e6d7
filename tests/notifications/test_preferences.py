"""The unsubscribe button and the preferences say the same."""

import pytest

from apps.accounts.me.preferences import preferences_of, preferences_set
from apps.accounts.models import User
from apps.mail.models import Unsubscription
from apps.mail.suppressing import address_unsubscribe

pytestmark = pytest.mark.django_db


def test_the_button_mutes_and_the_preference_brings_it_back() -> None:
    person = User.objects.create(email="ann@example.com")

    address_unsubscribe(address="ANN@example.com", kind="buy_done")

    assert preferences_of([person.pk])[person.pk].muted == {"buy_done"}
    preferences_set(user_id=person.pk, mails={"buy_done": True})
    assert preferences_of([person.pk])[person.pk].muted == set()
    assert not Unsubscription.objects.exists()


def test_an_address_without_an_account_is_remembered_by_mail() -> None:
    address_unsubscribe(address="nobody@example.com", kind="buy_done")

    assert Unsubscription.objects.get().address == "nobody@example.com"
