"""The platform's state: changing it, and reading it in every request without asking the database each time."""

import logging
from datetime import datetime

from django.db import IntegrityError, transaction

from apps.accounts.audit import audit_record
from apps.core import clock
from apps.core.brief import Brief
from apps.core.errors import Conflict, DomainError
from apps.events.services import EventDraft, events_publish
from apps.launch.domain import STOPS, Platform, State
from apps.launch.models import PlatformState
from apps.treasury.models import Activity, Pause, PauseSource
from apps.treasury.pauses import PLATFORM, pause_lift, pause_set

logger = logging.getLogger(__name__)

# An installation that never said anything is open: it was before there were states.
FIRST = State.LIVE


def platform_read() -> Platform:
    """What holds at this instant. Two small queries; for decisions that must not be half a second old."""
    row = PlatformState.objects.order_by("-number").first()
    stopped = frozenset(
        Activity(activity)
        for activity in Pause.objects.filter(asset__isnull=True, lifted_at__isnull=True)
        .order_by()
        .values_list("activity", flat=True)
    )
    if row is None:
        return Platform(FIRST, None, "", None, stopped)
    return Platform(State(row.state), row.created_at, row.message, row.until, stopped)


# The database is asked twice a second per process; Redis is not asked at all. Half a second, so that a switch acts
# within one second even where the request that filled it began late.
PLATFORM_NOW: Brief[str, Platform] = Brief(
    lambda _: platform_read(), seconds=0.5, models=(PlatformState, Pause)
)


def platform_now() -> Platform:
    """What holds, at most half a second old."""
    return PLATFORM_NOW.get("")


def state_set(
    *,
    state: State,
    reason: str,
    actor: str,
    message: str = "",
    until: datetime | None = None,
    seen: int | None = None,
) -> PlatformState:
    """Go over to `state`, and set and lift the kill switches that belong to states.

    `seen` is the number of the change that the operator was looking at: `Conflict` when there was another since.
    Raises `DomainError` without a reason or with an end in the past, `Conflict` for the state that holds already.
    """
    if not reason.strip() or not actor.strip():
        raise DomainError("reason_missing", "Say who does this and why.", pointer="/reason")
    if until is not None and until <= clock.now():
        raise DomainError("until_in_the_past", "The expected end is in the past.", pointer="/until")
    try:
        with transaction.atomic():
            last = PlatformState.objects.order_by("-number").first()
            number = last.number if last else 0
            before = State(last.state) if last else FIRST
            if seen is not None and seen != number:
                raise Conflict("state_changed", f"The state was changed meanwhile, to {before}.")
            if before == state and last is not None:
                raise Conflict("state_holds", f"The platform is {state} already.")
            row = PlatformState.objects.create(
                number=number + 1,
                state=state,
                reason=reason[:300],
                message=message[:300],
                until=until,
                actor=actor[:120],
            )
            _switches_follow(state, reason=reason, actor=actor)
            payload = {"from": before, "to": state, "message": row.message}
            audit_record(
                actor=actor,
                action="platform.state_changed",
                target_type="platform",
                target_id=row.number,
                before={"state": before},
                after={"state": state, "reason": row.reason},
            )
            events_publish([EventDraft("platform.state_changed", "platform", PLATFORM, payload)])
    except IntegrityError as error:
        raise Conflict("state_changed", "Somebody else changed the state at this moment.") from error
    logger.warning("platform state", extra={"state": str(state), "actor": actor, "reason": reason})
    return row


def _switches_follow(state: State, *, reason: str, actor: str) -> None:
    """The switches whose source is the platform are exactly those that the state wants."""
    wanted = STOPS[state]
    standing = Pause.objects.filter(source=PauseSource.PLATFORM, lifted_at__isnull=True)
    for pause in standing.exclude(activity__in=wanted):
        pause_lift(pause_id=pause.pk, actor=actor, note=f"The platform is {state}: {reason}")
    if wanted:
        pause_set(activities=wanted, asset_id=None, reason=reason, actor=actor, source=PauseSource.PLATFORM)
