"""What a long-lived connection was let in with, and whether it still would be."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from apps.accounts.models import ApiKey, Session
from apps.accounts.tokens.domain import AccessToken
from apps.accounts.tokens.selectors import session_is_live
from apps.core import bulk, clock


@dataclass(frozen=True, slots=True)
class Credential:
    """An API key, or the session of an access token, by its id.

    `expires_at` is when the key or the access token ends by itself, on `core.clock`.
    """

    kind: str
    id: UUID
    expires_at: datetime | None


def credential_of(auth: object) -> Credential:
    """The credential behind `request.auth`. Raises `TypeError` for one that nobody looks after here."""
    if isinstance(auth, ApiKey):
        return Credential("api_key", auth.pk, auth.expires_at)
    if isinstance(auth, AccessToken):
        return Credential("session", auth.session_id, auth.expires_at)
    raise TypeError(f"no live connection for {type(auth).__name__}")


def credentials_ended(*, credentials: Collection[Credential], scope: str) -> set[Credential]:
    """Those that would not be let in now with `scope`: expired, revoked, or their person switched off.

    One statement per kind, however many there are.
    """
    now = clock.now()
    ended = {one for one in credentials if one.expires_at is not None and one.expires_at <= now}
    kinds: dict[str, list[Credential]] = {}
    for one in set(credentials) - ended:
        kinds.setdefault(one.kind, []).append(one)
    for kind, some in kinds.items():
        live = _LIVE[kind]([one.id for one in some], scope)
        ended.update(one for one in some if one.id not in live)
    return ended


def _api_keys_live(ids: list[UUID], scope: str) -> set[UUID]:
    return _ids(
        "SELECT api_key.id FROM accounts_apikey AS api_key JOIN accounts_user AS person"
        " ON person.id = api_key.user_id WHERE api_key.id = ANY(%s::uuid[]) AND api_key.revoked_at IS NULL"
        " AND (api_key.expires_at IS NULL OR api_key.expires_at > %s)"
        " AND %s = ANY(api_key.scopes) AND person.is_active",
        [bulk.uuids(ids), clock.now(), scope],
    )


def _sessions_live(ids: list[UUID], scope: str) -> set[UUID]:
    """A session holds every scope."""
    del scope
    now = clock.now()
    asked = Session.objects.select_related("user").only(
        "revoked_at", "expires_at", "password_stamp", "user__is_active", "user__password"
    )
    return {session.pk for session in asked.filter(pk__any_of=ids) if session_is_live(session, now=now)}


def _ids(statement: str, parameters: list[Any]) -> set[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return {row[0] for row in cursor.fetchall()}


_LIVE: dict[str, Callable[[list[UUID], str], set[UUID]]] = {
    "api_key": _api_keys_live,
    "session": _sessions_live,
}
