"""Kill switches: stopping and allowing again what people's money does, per asset or altogether."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.core import clock
from apps.core.errors import DomainError, NotFound
from apps.events.services import EventDraft, events_publish
from apps.treasury.models import Activity, Pause, PauseSource

logger = logging.getLogger(__name__)

# The platform itself as an event's subject: pauses concern nobody in particular.
PLATFORM = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Paused:
    """Which assets an activity is paused for, by id, and the reason; `everything` when no asset is named."""

    everything: str
    assets: Mapping[UUID, str]

    def reason_for(self, *asset_ids: UUID) -> str:
        """Why something that touches these assets must wait; empty when it need not."""
        return self.everything or next((self.assets[one] for one in asset_ids if one in self.assets), "")


def paused_read(*, activity: Activity) -> Paused:
    """What is paused now. One small query; nothing is cached, so that a switch acts at once."""
    everything = ""
    assets: dict[UUID, str] = {}
    for pause in Pause.objects.filter(activity=activity, lifted_at__isnull=True).order_by("created_at"):
        if pause.asset_id is None:
            everything = pause.reason
        else:
            assets[pause.asset_id] = pause.reason
    return Paused(everything, assets)


def pause_set(
    *,
    activities: Collection[Activity],
    asset_id: UUID | None,
    reason: str,
    actor: str,
    source: PauseSource = PauseSource.OPERATOR,
    details: Mapping[str, Any] | None = None,
) -> list[Pause]:
    """Pause `activities` for an asset, or for all of them; those that the same source paused already stay.

    Writes `platform.paused` per new pause and returns the new ones. Raises `DomainError` without a reason, and for an
    asset with signing up.
    """
    _said_check(reason, actor)
    if asset_id is not None and Activity.SIGNING_UP in activities:
        raise DomainError("asset_not_meant", "Signing up has no asset.", pointer="/asset")
    wanted = [
        Pause(
            activity=activity,
            asset_id=asset_id,
            source=source,
            reason=reason[:300],
            details=dict(details or {}),
            actor=actor[:120],
        )
        for activity in sorted(activities)
    ]
    with transaction.atomic():
        Pause.objects.bulk_create(wanted, ignore_conflicts=True)
        made = list(Pause.objects.filter(pk__in=[pause.pk for pause in wanted]).order_by("pk"))
        events_publish([_draft("platform.paused", pause, reason) for pause in made])
    for pause in made:
        logger.error("paused", extra={"activity": pause.activity, "asset": str(asset_id), "reason": reason})
    return made


def pause_lift(*, pause_id: UUID, actor: str, note: str) -> Pause:
    """Allow again what one pause stopped; other pauses stand. Raises `NotFound` for one that is not active."""
    _said_check(note, actor)
    with transaction.atomic():
        changed = Pause.objects.filter(pk=pause_id, lifted_at__isnull=True).update(
            lifted_at=clock.now(), lifted_by=actor[:120], lifted_note=note[:300]
        )
        if not changed:
            raise NotFound("No such pause is active.")
        pause = Pause.objects.get(pk=pause_id)
        events_publish([_draft("platform.resumed", pause, note)])
    logger.warning("pause lifted", extra={"activity": pause.activity, "note": note})
    return pause


def _said_check(reason: str, actor: str) -> None:
    if not reason.strip() or not actor.strip():
        raise DomainError("reason_missing", "Say who does this and why.", pointer="/reason")


def _draft(topic: str, pause: Pause, reason: str) -> EventDraft:
    payload = {
        "activity": pause.activity,
        "asset_id": str(pause.asset_id) if pause.asset_id else None,
        "source": pause.source,
        "reason": reason[:300],
        "details": pause.details,
    }
    return EventDraft(topic, "platform", PLATFORM, payload, "pause", pause.pk)
