"""Writes: people and their API keys."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, connection, transaction

from apps.accounts.audit import audit_record
from apps.accounts.domain import Scope, network_canonical, token_make
from apps.accounts.managers import email_normalise
from apps.accounts.models import ApiKey, User
from apps.core import clock
from apps.core.errors import Conflict, DomainError, NotFound
from apps.events.services import EventDraft, events_publish

KEYS_MAX = 50
NETWORKS_MAX = 20
LAST_USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class ApiKeyCreated:
    """The row, and the key itself: the only time that it is seen."""

    api_key: ApiKey
    key: str


def user_create(
    *, email: str, password: str | None = None, is_staff: bool = False, fee_tier: str = "standard"
) -> User:
    """A person; without a password only API keys work. Raises `DomainError`, `Conflict` (known email)."""
    user = User(email=email_normalise(email), is_staff=is_staff, fee_tier=fee_tier)
    try:
        validate_email(user.email)
    except ValidationError as error:
        raise DomainError("invalid_email", "Not an email address.", pointer="/email") from error
    if password is not None:
        try:
            validate_password(password, user)
        except ValidationError as error:
            raise DomainError("weak_password", " ".join(error.messages), pointer="/password") from error
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError as error:
        raise Conflict("email_taken", "There is a user with this email.") from error
    return user


def api_key_create(
    *,
    user_id: UUID,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    networks: Iterable[str] = (),
    actor: User | UUID | str | None = None,
) -> ApiKeyCreated:
    """Make a key; `actor` is its holder unless told.

    Raises `DomainError` (unknown scope, past expiry, what is no network), `Conflict` (`KEYS_MAX` live keys).
    """
    wanted = sorted(set(scopes))
    unknown = [scope for scope in wanted if scope not in set(Scope)]
    if not wanted or unknown:
        raise DomainError("unknown_scope", f"Scopes are some of: {', '.join(Scope)}.", pointer="/scopes")
    places = networks_clean(networks)
    now = clock.now()
    if expires_at is not None and expires_at <= now:
        raise DomainError("expires_in_the_past", "A key cannot have expired already.", pointer="/expires_at")
    with transaction.atomic():
        # The person's row is the lock under which keys are counted.
        if not User.objects.select_for_update().filter(pk=user_id, is_active=True).exists():
            raise NotFound
        if ApiKey.objects.filter(user_id=user_id, revoked_at__isnull=True).count() >= KEYS_MAX:
            raise Conflict("too_many_keys", f"At most {KEYS_MAX} keys at a time: revoke one first.")
        token = token_make()
        api_key = ApiKey.objects.create(
            user_id=user_id,
            name=name,
            prefix=token.prefix,
            secret_hash=token.secret_hash,
            scopes=wanted,
            created_at=now,
            expires_at=expires_at,
            networks=places,
        )
        _key_recorded("api_key.created", api_key, actor, before=None, after=_key_terms(api_key))
    return ApiKeyCreated(api_key, token.reveal())


def networks_clean(networks: Iterable[str]) -> list[str]:
    """Networks as they are kept: canonical, sorted, none twice. Raises `DomainError` naming the one that is none."""
    cleaned = set()
    for index, text in enumerate(networks):
        try:
            cleaned.add(network_canonical(text.strip()))
        except ValueError as error:
            said = "A network is an address or CIDR such as 203.0.113.0/24 or 2001:db8::/32, host bits zero."
            raise DomainError("invalid_network", said, pointer=f"/networks/{index}") from error
    if len(cleaned) > NETWORKS_MAX:
        raise DomainError("too_many_networks", f"At most {NETWORKS_MAX} networks.", pointer="/networks")
    return sorted(cleaned)


def api_key_limit(
    *, api_key_id: UUID, networks: Iterable[str], expires_at: datetime | None, actor: User | UUID | str
) -> ApiKey:
    """Say anew from where and until when a live key works, from its next use on. Raises `DomainError`, `NotFound`."""
    places = networks_clean(networks)
    with transaction.atomic():
        rows = ApiKey.objects.select_for_update(no_key=True)
        api_key = rows.filter(pk=api_key_id, revoked_at__isnull=True).first()
        if api_key is None:
            raise NotFound
        before = _key_terms(api_key)
        api_key.networks, api_key.expires_at = places, expires_at
        if (after := _key_terms(api_key)) != before:
            api_key.save(update_fields=["networks", "expires_at"])
            _key_recorded("api_key.limited", api_key, actor, before=before, after=after)
    return api_key


def api_key_revoke(*, user_id: UUID, api_key_id: UUID, actor: User | UUID | str | None = None) -> None:
    """End a key at once. Revoking twice is no error and keeps the first instant. Raises `NotFound`."""
    with transaction.atomic():
        owned = ApiKey.objects.filter(pk=api_key_id, user_id=user_id)
        now = clock.now()
        if owned.filter(revoked_at__isnull=True).update(revoked_at=now):
            api_key, after = owned.get(), {"revoked_at": now}
            _key_recorded("api_key.revoked", api_key, actor, before={"revoked_at": None}, after=after)
        elif not owned.exists():
            raise NotFound


def _key_terms(api_key: ApiKey) -> dict[str, Any]:
    names = ("name", "prefix", "scopes", "networks", "expires_at")
    return {name: getattr(api_key, name) for name in names}


def _key_recorded(
    action: str,
    api_key: ApiKey,
    actor: User | UUID | str | None,
    *,
    before: dict[str, Any] | None,
    after: dict[str, Any],
) -> None:
    audit_record(
        actor=actor or api_key.user_id,
        action=action,
        target_type="api_key",
        target_id=api_key.pk,
        before=before,
        after=after,
    )


def api_key_touch(*, api_key: ApiKey) -> None:
    """Note that the key was used, at most once a minute; a row that somebody else holds is left for later."""
    now = clock.now()
    # A clock that was turned back must not stop the notes for as long as it was turned.
    if api_key.last_used_at is not None and abs(now - api_key.last_used_at) < LAST_USED_EVERY:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_apikey SET last_used_at = %s WHERE id = (SELECT id FROM accounts_apikey"
            " WHERE id = %s AND last_used_at IS NOT DISTINCT FROM %s FOR NO KEY UPDATE SKIP LOCKED)",
            [now, api_key.pk, api_key.last_used_at],
        )


def user_freeze(*, user_id: UUID, reason: str, actor: User | UUID | str = "platform") -> bool:
    """Stop buying and withdrawing for a person until `user_unfreeze`; True when they were not frozen before.

    Writes `person.frozen`. Raises `NotFound`.
    """
    return _frozen_set(user_id, topic="person.frozen", reason=reason, actor=actor)


def user_unfreeze(*, user_id: UUID, reason: str, actor: User | UUID | str = "platform") -> bool:
    """Undo `user_freeze`; True when they were frozen. Writes `person.unfrozen`. Raises `NotFound`."""
    return _frozen_set(user_id, topic="person.unfrozen", reason=reason, actor=actor)


def _frozen_set(user_id: UUID, *, topic: str, reason: str, actor: User | UUID | str) -> bool:
    if not reason.strip():
        raise DomainError("reason_missing", "Say why.", pointer="/reason")
    freeze = topic == "person.frozen"
    with transaction.atomic():
        if not User.objects.filter(pk=user_id).exists():
            raise NotFound
        changed = User.objects.filter(pk=user_id, frozen_at__isnull=freeze).update(
            frozen_at=clock.now() if freeze else None, frozen_reason=reason[:200] if freeze else ""
        )
        if changed:
            events_publish([EventDraft(topic, "person", user_id, {"reason": reason[:200]})])
            audit_record(
                actor=actor,
                action=topic,
                target_type="user",
                target_id=user_id,
                before={"frozen": not freeze},
                after={"frozen": freeze, "reason": reason[:200]},
            )
    return bool(changed)
