"""Writes: people and their API keys."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, connection, transaction

from apps.accounts.domain import Scope, token_make
from apps.accounts.managers import email_normalise
from apps.accounts.models import ApiKey, User
from apps.core import clock
from apps.core.errors import Conflict, DomainError, NotFound
from apps.events.services import EventDraft, events_publish

KEYS_MAX = 50
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
    *, user_id: UUID, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> ApiKeyCreated:
    """Make a key. Raises `DomainError` (unknown scope, past expiry), `Conflict` (`KEYS_MAX` live keys)."""
    wanted = sorted(set(scopes))
    unknown = [scope for scope in wanted if scope not in set(Scope)]
    if not wanted or unknown:
        raise DomainError("unknown_scope", f"Scopes are some of: {', '.join(Scope)}.", pointer="/scopes")
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
        )
    return ApiKeyCreated(api_key, token.reveal())


def api_key_revoke(*, user_id: UUID, api_key_id: UUID) -> None:
    """End a key at once. Revoking twice is no error and keeps the first instant. Raises `NotFound`."""
    owned = ApiKey.objects.filter(pk=api_key_id, user_id=user_id)
    if not owned.filter(revoked_at__isnull=True).update(revoked_at=clock.now()) and not owned.exists():
        raise NotFound


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


def user_freeze(*, user_id: UUID, reason: str) -> bool:
    """Stop buying and withdrawing for a person until `user_unfreeze`; True when they were not frozen before.

    Writes `person.frozen`. Raises `NotFound`.
    """
    return _frozen_set(user_id, topic="person.frozen", reason=reason)


def user_unfreeze(*, user_id: UUID, reason: str) -> bool:
    """Undo `user_freeze`; True when they were frozen. Writes `person.unfrozen`. Raises `NotFound`."""
    return _frozen_set(user_id, topic="person.unfrozen", reason=reason)


def _frozen_set(user_id: UUID, *, topic: str, reason: str) -> bool:
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
    return bool(changed)
