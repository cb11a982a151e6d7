"""Reads: who a key belongs to, and what keys a person has."""

import hmac
from uuid import UUID

from apps.accounts.domain import token_parse
from apps.accounts.managers import email_normalise
from apps.accounts.models import ApiKey, User
from apps.core import clock
from apps.core.api.pagination import Page, PageQuery, keyset_page
from apps.core.errors import NotFound

# Compared with when no key has the prefix, so that both cases take the same steps.
_NOBODY = "0" * 64


def api_key_authenticate(*, text: str) -> ApiKey | None:
    """The live key with its user, in one query; `None` when it is malformed, unknown, revoked or expired."""
    token = token_parse(text)
    if token is None:
        return None
    api_key = ApiKey.objects.select_related("user").filter(prefix=token.prefix).first()
    stored = api_key.secret_hash if api_key else _NOBODY
    if not hmac.compare_digest(stored, token.secret_hash) or api_key is None:
        return None
    live = api_key.revoked_at is None and (api_key.expires_at is None or api_key.expires_at > clock.now())
    return api_key if live and api_key.user.is_active else None


def api_key_page(*, user_id: UUID, query: PageQuery) -> Page[ApiKey]:
    """A person's keys, the newest first, revoked ones too. Index: accounts_apikey_listing."""
    return keyset_page(ApiKey.objects.filter(user_id=user_id), query=query)


def user_by_email(*, email: str) -> User:
    """Raises `NotFound`."""
    user = User.objects.filter(email=email_normalise(email)).first()
    if user is None:
        raise NotFound(f"No user with email {email}.")
    return user
