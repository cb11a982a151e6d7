"""Reads: who a key belongs to, and what keys a person has."""

import hmac
import logging
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection

from apps.accounts.domain import networks_contain, token_parse
from apps.accounts.managers import email_normalise
from apps.accounts.me.preferences import preferences_of
from apps.accounts.models import ApiKey, User
from apps.core import clock
from apps.core.api.pagination import Page, PageQuery, keyset_page
from apps.core.errors import NotFound

logger = logging.getLogger(__name__)

# Compared with when no key has the prefix, so that both cases take the same steps.
_NOBODY = "0" * 64


def api_key_authenticate(*, text: str, address: str | None = None) -> ApiKey | None:
    """The live key with its user, in one query; `None` when it is malformed, unknown, revoked or expired.

    So it is when it has networks and `address`, the client's, is not in them: not even that it exists is told.

    Every request asks this, so its SQL is written once, not by the ORM each time. Nothing of it is kept: a key
    that was revoked is refused by the next request.
    """
    token = token_parse(text)
    if token is None:
        return None
    api_key = _api_key_by_prefix(token.prefix)
    stored = api_key.secret_hash if api_key else _NOBODY
    if not hmac.compare_digest(stored, token.secret_hash) or api_key is None:
        return None
    live = api_key.revoked_at is None and (api_key.expires_at is None or api_key.expires_at > clock.now())
    if not live or not api_key.user.is_active:
        return None
    if not networks_contain(api_key.networks, address):
        # The right secret at the wrong place: somebody has a key that they should not have, or moved house.
        logger.warning(
            "api key from outside of its networks", extra={"prefix": api_key.prefix, "address": address}
        )
        return None
    return api_key


def _api_key_by_prefix(prefix: str) -> ApiKey | None:
    statement, key_names, user_names = _look_up()
    with connection.cursor() as cursor:
        cursor.execute(statement, [prefix])
        row = cursor.fetchone()
    if row is None:
        return None
    api_key = ApiKey.from_db(None, key_names, row[: len(key_names)])
    api_key.user = User.from_db(None, user_names, row[len(key_names) :])
    return api_key


@cache
def _look_up() -> tuple[str, list[str], list[str]]:
    """The statement, and the names of the key's and the user's columns in its rows."""
    tables: dict[str, Any] = {"api_key": ApiKey._meta, "person": User._meta}
    columns = ", ".join(
        f'{alias}."{field.column}"' for alias, meta in tables.items() for field in meta.concrete_fields
    )
    statement = (
        f'SELECT {columns} FROM "{ApiKey._meta.db_table}" AS api_key'
        f' INNER JOIN "{User._meta.db_table}" AS person ON person.id = api_key.user_id WHERE api_key.prefix = %s'
    )
    key_names, user_names = ([field.attname for field in meta.concrete_fields] for meta in tables.values())
    return statement, key_names, user_names


def api_key_page(*, user_id: UUID, query: PageQuery) -> Page[ApiKey]:
    """A person's keys, the newest first, revoked ones too. Index: accounts_apikey_listing."""
    return keyset_page(ApiKey.objects.filter(user_id=user_id), query=query)


def user_by_email(*, email: str) -> User:
    """Raises `NotFound`."""
    user = User.objects.filter(email=email_normalise(email)).first()
    if user is None:
        raise NotFound(f"No user with email {email}.")
    return user


__all__ = ["api_key_authenticate", "api_key_page", "preferences_of", "user_by_email"]
