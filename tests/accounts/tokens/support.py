"""People who signed in, and what they hold."""

from typing import Any

from django.test import RequestFactory

from apps.accounts.models import User
from apps.accounts.services import user_create
from apps.accounts.signin.sessions import SessionStore
from apps.accounts.tokens.domain import TokenPair
from apps.accounts.tokens.services import session_open
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


def signed_in(email: str = "ann@example.org", **options: Any) -> tuple[User, TokenPair, ApiClient]:
    """A person, the pair of their session, and a client that holds its access token."""
    user = User.objects.filter(email=email).first() or user_create(email=email)
    pair = sign_in(user, **options)
    return user, pair, ApiClient(pair.access_token)
