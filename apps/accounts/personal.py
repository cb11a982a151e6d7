"""What accounts (and events below it) know about a person, for their export."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount

from apps.accounts.exports import CHUNK, Row, section_register
from apps.accounts.me.models import DataExport
from apps.accounts.me.preferences import preferences_of
from apps.accounts.models import ApiKey, Session, User
from apps.accounts.signin.person import FACTOR_NAMES
from apps.events.models import Event


def _account(user_id: UUID) -> Iterator[Row]:
    user = User.objects.get(pk=user_id)
    wanted = preferences_of([user_id])[user_id]
    yield {
        "id": user.pk,
        "email": user.email,
        "fee_tier": user.fee_tier,
        "created_at": user.created_at,
        "last_login": user.last_login,
        "frozen_at": user.frozen_at,
        "roles": sorted(user.groups.values_list("name", flat=True)),
        "preferences": {
            "language": wanted.language,
            "zone": wanted.zone,
            "muted_mails": sorted(wanted.muted),
            "digest": wanted.digest,
        },
    }


def _api_keys(user_id: UUID) -> Iterator[Row]:
    names = ("id", "name", "prefix", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")
    yield from _values(ApiKey.objects.filter(user_id=user_id).order_by("created_at", "id"), *names)


def _events(user_id: UUID) -> Iterator[Row]:
    rows = Event.objects.filter(subject_type="person", subject_id=user_id).order_by("sequence")
    names = ("id", "sequence", "topic", "object_type", "object_id", "payload", "occurred_at")
    yield from _values(rows, *names)


def _exports(user_id: UUID) -> Iterator[Row]:
    rows = DataExport.objects.filter(user_id=user_id).order_by("created_at", "id")
    yield from _values(rows, "id", "state", "created_at", "ready_at", "size_bytes")


def _sessions(user_id: UUID) -> Iterator[Row]:
    names = (
        "id",
        "device",
        "address",
        "transport",
        "factors",
        "created_at",
        "authenticated_at",
        "last_used_at",
    )
    rows = Session.objects.filter(user_id=user_id).order_by("created_at", "id")
    yield from _values(rows, *names, "expires_at", "revoked_at", "reason")


def _sign_in(user_id: UUID) -> Iterator[Row]:
    """How they sign in. Neither passwords, secrets and codes, nor public keys of passkeys."""
    for email in EmailAddress.objects.filter(user_id=user_id).order_by("pk"):
        yield {"method": "email", "email": email.email, "verified": email.verified, "primary": email.primary}
    if User.objects.get(pk=user_id).has_usable_password():
        yield {"method": "password"}
    for account in SocialAccount.objects.filter(user_id=user_id).order_by("pk"):
        yield {
            "method": "provider",
            "provider": account.provider,
            "uid": account.uid,
            "created_at": account.date_joined,
            "last_used_at": account.last_login,
            "said": account.extra_data,
        }
    for factor in Authenticator.objects.filter(user_id=user_id).order_by("pk"):
        yield {
            "method": FACTOR_NAMES[factor.type],
            "name": factor.data.get("name", ""),
            "created_at": factor.created_at,
            "last_used_at": factor.last_used_at,
        }


def _values(rows: Any, *names: str) -> Iterator[Row]:
    yield from rows.values(*names).iterator(chunk_size=CHUNK)


section_register("account", _account)
section_register("api_keys", _api_keys)
section_register("events", _events)
section_register("exports", _exports)
section_register("sessions", _sessions)
section_register("sign_in", _sign_in)
