"""Who is written to: address, language, zone, and what they do not want."""

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID
from zoneinfo import ZoneInfo

from apps.accounts import selectors as accounts
from apps.accounts.models import User


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
    read = getattr(accounts, "preferences_of", None)
    wanted = read(list(emails)) if read is not None else {}
    found = {}
    for user_id, email in emails.items():
        said = wanted.get(user_id)
        found[user_id] = (
            Recipient(user_id, email)
            if said is None
            else Recipient(
                user_id, email, said.language, ZoneInfo(said.zone), frozenset(said.muted), said.digest
            )
        )
    return found
