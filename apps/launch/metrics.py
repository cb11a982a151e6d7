"""What alerting and the curious look at: the state, and how many wait."""

from collections.abc import Iterable

from django.db.models import Count

from apps.core.metrics import Sample, gauge
from apps.launch.domain import EntryState, InvitationState, State
from apps.launch.models import Invitation, WaitlistEntry
from apps.launch.states import platform_read


@gauge("tranche_platform_state", "1 for the state that holds, 0 for the others", labels=("state",))
def platform_state() -> Iterable[Sample]:
    now = platform_read().state
    return [((str(state),), float(state == now)) for state in State]


@gauge("tranche_waitlist_entries", "People on the waitlist", labels=("state",))
def waitlist_entries() -> Iterable[Sample]:
    counted = dict(WaitlistEntry.objects.order_by().values_list("state").annotate(Count("pk")))
    return [((str(state),), float(counted.get(state, 0))) for state in EntryState]


@gauge("tranche_invitations", "Invitations", labels=("state",))
def invitations() -> Iterable[Sample]:
    counted = dict(Invitation.objects.order_by().values_list("state").annotate(Count("pk")))
    return [((str(state),), float(counted.get(state, 0))) for state in InvitationState]
