"""The launch's work: sending invitations."""

from apps.core import work
from apps.launch.invitations import BELL, invitations_send
from apps.launch.models import Invitation

INVITE: work.Work[Invitation] = work.register(
    work.Work(
        name=BELL,
        model=Invitation,
        states=("queued",),
        advance=invitations_send,
        chunk=100,
        max_attempts=5,
    )
)
