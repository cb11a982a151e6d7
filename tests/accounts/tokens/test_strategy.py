"""What django-allauth's headless flows are given: our sessions, and no key of its own once a sign-in is complete."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.utils.module_loading import import_string

from apps.accounts.models import Session, User
from apps.accounts.services import user_create
from apps.accounts.signin.sessions import SessionStore
from apps.accounts.tokens.domain import TokenPair
from tests.accounts.tokens.support import request_of

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        not apps.is_installed("allauth.account"), reason="django-allauth is not installed here yet"
    ),
]


@pytest.fixture
def strategy() -> Any:
    from django.conf import settings

    return import_string(settings.HEADLESS_TOKEN_STRATEGY)()


def completed(strategy: Any, user: User, **headers: str) -> tuple[Any, dict[str, Any]]:
    """As allauth has it at the end of a sign-in: logged in, with its records, asked for the answer's `meta`."""
    request = request_of(**headers)
    request.user = user
    request.session[SESSION_KEY] = str(user.pk)
    request.session["account_authentication_methods"] = [
        {"method": "password", "at": 1.0, "email": user.email},
        {"method": "mfa", "at": 2.0, "type": "totp"},
        {"method": "socialaccount", "at": 3.0, "provider": "google"},
        {"method": "password", "at": 4.0, "reauthenticated": True},
    ]
    request.session["account_authentication_methods_user"] = str(user.pk)
    request.allauth = SimpleNamespace()
    return request, strategy.create_access_token_payload(request)


def test_completed_sign_in_opens_one_session_with_its_factors(strategy: Any) -> None:
    user = user_create(email="ann@example.org", password="correct horse battery")
    request, payload = completed(strategy, user)
    session = Session.objects.get()
    assert session.factors == ["password", "totp", "google"]
    assert session.django_key == request.session.session_key
    assert TokenPair.from_meta(json.loads(json.dumps(payload))).as_meta() == payload
    assert payload["session_id"] == str(session.pk)
    assert strategy.create_access_token_payload(request) == payload, "allauth may ask twice for one answer"
    assert Session.objects.count() == 1
    assert request.session.get_expiry_age() == 90 * 86_400


def test_key_of_a_completed_sign_in_is_not_given_out_and_is_no_credential(strategy: Any) -> None:
    user = user_create(email="ann@example.org")
    unfinished = request_of()
    unfinished.user = AnonymousUser()
    key = strategy.create_session_token(unfinished)
    assert key == unfinished.session.session_key
    assert strategy.get_session_token(request_of(x_session_token=key)) == key

    request, _ = completed(strategy, user)
    assert strategy.create_session_token(request) == ""
    assert strategy.get_session_token(request_of(x_session_token=request.session.session_key)) is None
    assert strategy.get_session_token(request_of()) is None


def test_access_token_leads_to_allauths_session_until_the_session_ends(strategy: Any) -> None:
    user = user_create(email="ann@example.org")
    request, payload = completed(strategy, user)
    headers = {"authorization": f"Bearer {payload['access_token']}"}
    assert strategy.get_session_token(request_of(**headers)) == request.session.session_key
    found = strategy.lookup_session(request.session.session_key)
    assert found[SESSION_KEY] == str(user.pk)

    Session.objects.update(revoked_at=user.created_at, reason="signed_out")
    assert strategy.get_session_token(request_of(**headers)) is None


def test_new_key_of_allauths_session_is_followed(strategy: Any) -> None:
    user = user_create(email="ann@example.org")
    _, payload = completed(strategy, user)
    request = request_of(authorization=f"Bearer {payload['access_token']}")
    request.user = user
    request.session = SessionStore(strategy.get_session_token(request))
    request.session.cycle_key()
    assert strategy.create_session_token(request) == ""
    assert Session.objects.get().django_key == request.session.session_key
