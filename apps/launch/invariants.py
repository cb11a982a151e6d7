"""What must hold of the launch and of closed accounts, in production too."""

from django.db.models import F

from apps.accounts.closing import obstacles_find
from apps.accounts.models import User
from apps.core.invariants import Finding, invariant
from apps.launch.domain import STOPS
from apps.launch.models import WaitlistEntry
from apps.launch.states import platform_read
from apps.treasury.models import Pause, PauseSource

_SHOWN = 20
_CHUNK = 5_000


@invariant("accounts.closed_have_nothing")
def closed_have_nothing() -> Finding:
    """Nothing of value is left behind with somebody who cannot sign in any more.

    What is sent to a closed person's old address later shows here: an operator decides.
    """
    closed = list(User.objects.filter(closed_at__isnull=False).order_by("pk").values_list("pk", flat=True))
    violations = []
    for start in range(0, len(closed), _CHUNK):
        for user_id, found in obstacles_find(user_ids=closed[start : start + _CHUNK]).items():
            violations.append(f"{user_id}: {', '.join(sorted(one.code for one in found))}")
    return Finding(violations[:_SHOWN], {"closed": len(closed)})


@invariant("launch.switches_follow_the_state")
def switches_follow_the_state() -> Finding:
    """The kill switches that belong to the state are on, and no others of its own."""
    state = platform_read().state
    standing = Pause.objects.filter(source=PauseSource.PLATFORM, lifted_at__isnull=True)
    on = set(standing.values_list("activity", flat=True))
    wanted = {str(activity) for activity in STOPS[state]}
    violations = [f"{state}: {activity} differs" for activity in sorted(on ^ wanted)]
    return Finding(violations, {"state": str(state), "on": sorted(on)})


@invariant("launch.referred_once")
def referred_once() -> Finding:
    """Nobody referred themselves."""
    rows = WaitlistEntry.objects.filter(referred_by=F("pk")).values_list("pk", flat=True)[:_SHOWN]
    return Finding([str(pk) for pk in rows], {})
