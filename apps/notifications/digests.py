"""The step of a digest: gathered entries become one mail."""

from collections import defaultdict
from typing import Any
from uuid import UUID

from apps.core import bulk
from apps.core.work import STEPPED
from apps.mail.services import MessageDraft, messages_queue
from apps.notifications.models import Digest, DigestEntry
from apps.notifications.recipients import recipients_read

# What one mail shows; the rest is counted.
_SHOWN = 50


def digests_send(rows: list[Digest]) -> None:
    """Queue a mail for each that has something to say. The engine locks and commits."""
    entries: dict[UUID, list[DigestEntry]] = defaultdict(list)
    for entry in DigestEntry.objects.filter(digest__id__any_of=[row.pk for row in rows]).order_by("event_id"):
        entries[entry.digest_id].append(entry)
    people = recipients_read({row.user_id for row in rows})
    drafts = []
    for row in rows:
        person = people.get(row.user_id)
        if person is None:
            continue
        # Muted meanwhile: the last word counts.
        wanted = [one for one in entries[row.pk] if one.template not in person.muted]
        if wanted:
            drafts.append(
                MessageDraft(
                    to=person.email,
                    template="buy_digest",
                    key=f"digest:{row.pk}:buy_digest",
                    essential=False,
                    context=_context(row, wanted),
                    language=person.language,
                )
            )
    messages_queue(drafts)
    bulk.update(
        "notifications_digest", [row.pk for row in rows], {}, constants={"state": "sent"}, also=STEPPED
    )


def _context(row: Digest, entries: list[DigestEntry]) -> dict[str, Any]:
    buys = [one.context for one in entries if one.template == "buy_done"]
    skipped = [one.context for one in entries if one.template == "buy_skipped"]
    more = max(0, len(buys) - _SHOWN) + max(0, len(skipped) - _SHOWN)
    return {
        "day": f"{row.day:%A} {row.day.day} {row.day:%B %Y}",
        "count": len(buys),
        "buys": buys[:_SHOWN],
        "skipped": skipped[:_SHOWN],
        "more": more,
    }
