"""Kill switches as operators press them: whole activities, on and off, whoever switched what off before."""

from apps.core.errors import Conflict
from apps.treasury.models import Activity, Pause, PauseSource
from apps.treasury.pauses import pause_lift, pause_set


def switch_stop(*, activity: Activity, reason: str, actor: str) -> Pause:
    """Stop `activity` altogether. Raises `Conflict` when an operator did already, `DomainError` without a reason."""
    made = pause_set(activities=[activity], asset_id=None, reason=reason, actor=actor)
    if not made:
        raise Conflict("stopped_already", f"{activity.label} is stopped already.")
    return made[0]


def switch_allow(*, activity: Activity, reason: str, actor: str) -> Pause:
    """Lift the operators' stop of the whole activity.

    Stops of single assets, reconciliation's and the state's own stay. Raises `Conflict` when there is nothing to lift.
    """
    standing = Pause.objects.filter(
        activity=activity, asset__isnull=True, source=PauseSource.OPERATOR, lifted_at__isnull=True
    ).first()
    if standing is None:
        raise Conflict("not_stopped", f"No operator has stopped {activity.label.lower()}.")
    return pause_lift(pause_id=standing.pk, actor=actor, note=reason)


def switches_read() -> list[tuple[Activity, list[Pause]]]:
    """Every activity with what stops it now, oldest first. One query."""
    standing = list(
        Pause.objects.filter(lifted_at__isnull=True).select_related("asset").order_by("created_at")
    )
    return [(activity, [one for one in standing if one.activity == activity]) for activity in Activity]
