"""People who signed in, and what they hold."""

import time
from datetime import timedelta
from typing import Any

from allauth.account.internal.flows.login import get_authentication_records, record_authentication
from django.contrib.auth import login
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory

from apps.accounts.models import Session, User
from apps.accounts.services import user_create
from apps.accounts.signin.sessions import SessionStore
from apps.accounts.tokens.domain import TokenPair
from apps.accounts.tokens.services import session_open
from apps.core import clock
from tests.core.api.support import ApiClient

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def request_of(agent: str = FIREFOX, address: str = "192.0.2.7", **headers: str) -> Any:
    """A request as allauth has it: with a Django session of its own."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = RequestFactory().post(
        "/api/v1/auth/login", headers={"user-agent": agent, **sent}, REMOTE_ADDR=address
    )
    request.session = SessionStore()
    request.session["kept"] = True
    request.session.save()
    return request


def sign_in(
    user: User, *, transport: str = "body", factors: tuple[str, ...] = ("password",), **of: Any
) -> TokenPair:
    return session_open(user=user, request=request_of(x_token_transport=transport, **of), factors=factors)


def sign_in_for_good(user: User) -> TokenPair:
    """As `sign_in`, with django-allauth's own session behind it, and a step-up that stays fresh for a day."""
    request = request_of()
    request.user = AnonymousUser()
    login(request, user, backend="allauth.account.auth_backends.AuthenticationBackend")
    at = time.time() + 86_400
    for shown in ({"method": "password", "email": user.email}, {"method": "mfa", "type": "totp"}):
        record_authentication(request, user, **shown)
    for record in get_authentication_records(request, user):
        record["at"] = at
    request.session.save()
    pair = session_open(user=user, request=request, factors=("password", "totp"))
    Session.objects.filter(pk=pair.session_id).update(authenticated_at=clock.now() + timedelta(days=1))
    return pair


def signed_in(email: str = "ann@example.org", **options: Any) -> tuple[User, TokenPair, ApiClient]:
    """A person, the pair of their session, and a client that holds its access token."""
    user = User.objects.filter(email=email).first() or user_create(email=email)
    pair = sign_in(user, **options)
    return user, pair, ApiClient(pair.access_token)
