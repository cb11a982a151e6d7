"""Who I am, and what I want to be told."""

from typing import Any

import pytest
from django.contrib.auth.models import Group

from apps.accounts.domain import Scope
from apps.accounts.me.domain import PreferencesRead
from apps.accounts.me.models import Preferences
from apps.accounts.selectors import preferences_of
from apps.accounts.services import user_create
from apps.mail.suppressing import address_unsubscribe
from tests.core.api.support import ApiClient, problem, user_with_key

pytestmark = pytest.mark.django_db
ME, PREFERENCES = "/api/v1/me", "/api/v1/me/preferences"


def test_me_says_what_i_may_and_have() -> None:
    user, client = user_with_key("ann@example.org")
    user.groups.add(Group.objects.create(name="support-test"))
    body = client.get(ME).json()
    assert body["roles"] == ["support-test"]
    assert (body["factors"], body["frozen_at"], body["api_keys"]) == ([], None, 1)
    assert body["scopes"] == sorted(Scope)
    assert body["limits"] == {"api_keys": 50, "plans": 100, "withdrawal_destinations": 50}


def test_preferences_have_defaults_before_anything_was_said() -> None:
    user, client = user_with_key()
    assert client.get(PREFERENCES).json() == {
        "language": "en",
        "time_zone": "UTC",
        "mails": {
            "deposit_credited": True,
            "buy_done": True,
            "buy_skipped": True,
            "plan_paused": True,
            "funds_low": True,
            "withdrawal_steps": True,
        },
        "digest": False,
    }
    assert preferences_of([user.pk]) == {user.pk: PreferencesRead()}
    assert not Preferences.objects.exists()


def test_a_change_keeps_what_it_does_not_name() -> None:
    user, client = user_with_key()
    client.patch(PREFERENCES, {"mails": {"buy_done": False}, "time_zone": "Europe/Berlin"})
    answer = client.patch(PREFERENCES, {"mails": {"funds_low": False}, "digest": True})
    assert answer.status_code == 200
    assert answer.json() == client.get(PREFERENCES).json()
    assert preferences_of([user.pk])[user.pk] == PreferencesRead(
        "en", "Europe/Berlin", frozenset({"buy_done", "funds_low"}), digest=True
    )
    client.patch(PREFERENCES, {"mails": {"buy_done": True}})
    assert preferences_of([user.pk])[user.pk].muted == {"funds_low"}


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"language": "xx"}, "/language", "invalid_choice"),
        ({"time_zone": "Mars/Base"}, "/time_zone", "unknown_timezone"),
        ({"mails": {"code": False}}, "/mails/code", "unknown_field"),
        ({"mails": {"buy_done": "no"}}, "/mails/buy_done", "invalid"),
        ({"digest": 1}, "/digest", "invalid"),
        ({"user": "x"}, "/user", "unknown_field"),
        ({"fee_tier": "gold"}, "/fee_tier", "unknown_field"),
    ],
)
def test_bad_preferences_change_nothing(body: Any, pointer: str, code: str) -> None:
    _, client = user_with_key()
    answer = client.patch(PREFERENCES, body)
    problem(answer, 400, "validation_failed", errors=[(pointer, code)])
    assert not Preferences.objects.exists()


def test_preferences_need_their_scopes_and_show_nobody_elses() -> None:
    _, reader = user_with_key("ann@example.org", scopes=["account:read"])
    problem(reader.patch(PREFERENCES, {"digest": True}), 403, "insufficient_scope")
    _, planner = user_with_key("bea@example.org", scopes=["plans:read"])
    problem(planner.get(PREFERENCES), 403, "insufficient_scope")
    problem(ApiClient().get(PREFERENCES), 401, "not_authenticated")


def test_preferences_of_many_are_one_query(django_assert_num_queries: Any) -> None:
    people = [user_create(email=f"p{number}@example.org").pk for number in range(5)]
    with django_assert_num_queries(1):
        assert len(preferences_of(people)) == 5


def test_unsubscribing_by_a_mails_link_shows_in_the_preferences() -> None:
    user, client = user_with_key("ann@example.org")
    address_unsubscribe(address="ann@example.org", kind="buy_done")
    address_unsubscribe(address="nobody@example.org", kind="funds_low")
    assert preferences_of([user.pk])[user.pk].muted == {"buy_done"}
    client.patch(PREFERENCES, {"mails": {"buy_done": True}})
    assert preferences_of([user.pk])[user.pk].muted == frozenset()
