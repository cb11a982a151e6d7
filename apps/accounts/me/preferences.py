"""How a person wants to be told things."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from apps.accounts.audit import audit_record
from apps.accounts.managers import email_normalise
from apps.accounts.me.domain import MAIL_KINDS, PreferencesRead
from apps.accounts.me.models import Preferences
from apps.accounts.models import User
from apps.core import clock
from apps.core.errors import DomainError, NotFound
from apps.mail.suppressing import address_resubscribe


def preferences_of(user_ids: Collection[UUID]) -> dict[UUID, PreferencesRead]:
    """The preferences of people; defaults for who never said. One query."""
    found = {
        row.user_id: PreferencesRead(row.language, row.zone, frozenset(row.mails), row.digest)
        for row in Preferences.objects.filter(user_id__in=list(user_ids))
    }
    return {user_id: found.get(user_id, PreferencesRead()) for user_id in user_ids}


def preferences_set(
    *,
    user_id: UUID,
    language: str | None = None,
    zone: str | None = None,
    mails: Mapping[str, bool] | None = None,
    digest: bool | None = None,
) -> PreferencesRead:
    """Change what is given, keep the rest; `mails` says of kinds whether they are wanted.

    Two changes at once are made one after the other, so that neither is lost. Raises `DomainError` for an unknown
    language or kind of mail, `NotFound`.
    """
    if language is not None and language not in dict(settings.LANGUAGES):
        raise DomainError("unknown_language", "There are no texts in this language.", pointer="/language")
    for kind in mails or {}:
        if kind not in MAIL_KINDS:
            raise DomainError(
                "unknown_mail", "There is no such mail, or it is essential.", pointer=f"/mails/{kind}"
            )
    with transaction.atomic():
        user = User.objects.select_for_update(no_key=True).filter(pk=user_id, is_active=True).first()
        if user is None:
            raise NotFound
        row = Preferences.objects.filter(user_id=user_id).first() or Preferences(user_id=user_id)
        before = _shown(row)
        row.language = row.language if language is None else language
        row.zone = row.zone if zone is None else zone
        row.digest = row.digest if digest is None else digest
        wanted = mails or {}
        row.mails = [kind for kind in MAIL_KINDS if not wanted.get(kind, kind not in row.mails)]
        row.updated_at = clock.now()
        row.save()
        after = _shown(row)
        if again := set(before["muted"]) - set(after["muted"]):
            # Who unsubscribed by a mail's link and wants these after all.
            address_resubscribe(address=user.email, kinds=again)
        if after != before:
            audit_record(
                actor=user_id,
                action="preferences.changed",
                target_type="user",
                target_id=user_id,
                before=before,
                after=after,
            )
    return PreferencesRead(row.language, row.zone, frozenset(row.mails), row.digest)


def unsubscribed(address: str, kinds: frozenset[str]) -> None:
    """Somebody followed a mail's unsubscribe link: their preferences say so, too. In that transaction."""
    user = User.objects.filter(email=email_normalise(address), is_active=True).first()
    off: dict[str, bool] = {kind: False for kind in MAIL_KINDS if kind in kinds}
    if user is not None and off:
        preferences_set(user_id=user.pk, mails=off)


def _shown(row: Preferences) -> dict[str, Any]:
    return {"language": row.language, "zone": row.zone, "muted": list(row.mails), "digest": row.digest}
