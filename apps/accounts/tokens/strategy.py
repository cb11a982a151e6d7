"""How django-allauth's headless flows give out our tokens: its `HEADLESS_TOKEN_STRATEGY`.

allauth keeps an unfinished sign-in in a Django session of its own, whose key the client sends back in
`X-Session-Token`. When the sign-in is complete that session gets another key, which never leaves the server: from
then on the client has our tokens, and its access token leads allauth to the session (for a step-up, a new factor,
another password).
"""

from typing import Any, cast

from allauth.headless.tokens.strategies.base import AbstractTokenStrategy
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

from apps.accounts.models import User
from apps.accounts.tokens.domain import (
    SESSION_LIFETIME,
    AccessToken,
    TokenPair,
    access_token_like,
    factors_of,
)
from apps.accounts.tokens.selectors import access_token_authenticate
from apps.accounts.tokens.services import session_django_key_set, session_open

_PAIR = "_tranche_token_pair"
_ACCESS = "_tranche_access_token"


def token_pair_of(request: HttpRequest) -> TokenPair | None:
    """What the sign-in that this request completed was given, if it completed one."""
    return getattr(request, _PAIR, None)


def access_token_of(request: HttpRequest) -> AccessToken | None:
    """The good access token in the request's Authorization header, looked up once per request."""
    if not hasattr(request, _ACCESS):
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        sent = scheme.lower() == "bearer" and access_token_like(text)
        found = access_token_authenticate(text=text.strip()) if sent else None
        setattr(request, _ACCESS, found[1] if found else None)
    return cast("AccessToken | None", getattr(request, _ACCESS))


class TokenStrategy(AbstractTokenStrategy):  # type: ignore[misc]
    """Sessions of ours behind allauth's flows."""

    def get_session_token(self, request: HttpRequest) -> str | None:
        """The key of allauth's session: by the access token, else what `X-Session-Token` says of an unfinished one."""
        access = access_token_of(request)
        if access is not None:
            return access.django_key
        token = super().get_session_token(request)
        session = self.lookup_session(token) if token else None
        # The key of a finished one is no credential: ours keeps it as it is, to find allauth's by.
        return None if session is not None and SESSION_KEY in session else token

    def lookup_session(self, session_token: str) -> SessionBase | None:
        from allauth.headless.internal import sessionkit

        return cast("SessionBase | None", sessionkit.lookup_session(session_token))

    def create_session_token(self, request: HttpRequest) -> str:
        """The key for `X-Session-Token`; empty, which allauth does not send out, for one that is signed in."""
        if not request.session.session_key:
            request.session.save()
        key = str(request.session.session_key)
        if not request.user.is_authenticated:
            return key
        access = access_token_of(request)
        if access is not None and access.django_key != key:
            session_django_key_set(session_id=access.session_id, django_key=key)
        return ""

    def create_access_token_payload(self, request: HttpRequest) -> dict[str, Any] | None:
        """A sign-in is complete: open our session, once per request. allauth puts this into the answer's `meta`."""
        pair = token_pair_of(request)
        if pair is None:
            user = cast("User", request.user)
            # It must last as long as ours: step-ups go on in it.
            request.session.set_expiry(int(SESSION_LIFETIME.total_seconds()))
            request.session.save()
            from allauth.account.authentication import get_authentication_records

            factors = factors_of(get_authentication_records(request, user))
            pair = session_open(user=user, request=request, factors=factors)
            setattr(request, _PAIR, pair)
        return pair.as_meta()
