"""Who is written to: address, language, zone, and what they do not want."""

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID
from zoneinfo import ZoneInfo

from apps.accounts.models import User
from apps.accounts.selectors import preferences_of


@dataclass(frozen=True)
class Recipient:
    user_id: UUID
    email: str
    language: str = "en"
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    muted: frozenset[str] = frozenset()
    digest: bool = False


def recipients_read(user_ids: Collection[UUID]) -> dict[UUID, Recipient]:
    """People who can be written to, in two queries; closed accounts are left out."""
    emails = dict(User.objects.filter(pk__any_of=list(user_ids), is_active=True).values_list("pk", "email"))
    found = {}
    for user_id, said in preferences_of(list(emails)).items():
        found[user_id] = Recipient(
            user_id, emails[user_id], said.language, ZoneInfo(said.zone), said.muted, said.digest
        )
    return found
