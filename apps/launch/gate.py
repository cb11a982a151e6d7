"""Who may sign up: the state, the kill switch, and before the launch an invitation tied to the e-mail."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import Exists, OuterRef

from apps.accounts.managers import email_normalise
from apps.accounts.signup_gate import SignUpRefused
from apps.core import clock
from apps.launch.domain import INVITATION_LIVE, EntryState, InvitationState
from apps.launch.invitations import invitation_find
from apps.launch.models import Invitation, WaitlistEntry
from apps.launch.states import platform_read

_CLOSED = ("sign_up_closed", "Nobody can sign up just now.")
_REQUIRED = ("invitation_required", "Before the launch an invitation is needed.")
_INVALID = ("invitation_invalid", "The invitation is not for this email, used, taken back or too old.")


class LaunchGate:
    """Reads what holds at this instant: signing up is rare, and nothing of it is kept."""

    def open_for(self, *, invitation: str) -> bool:
        sign_up = platform_read().sign_up
        return sign_up == "open" or (sign_up == "invitation" and bool(invitation))

    def check(self, *, email: str, invitation: str) -> None:
        """One or two small queries more than the state's. See `SignUpGate`."""
        self._allowed(email_normalise(email), invitation, lock=False)

    def used(self, *, user_id: UUID, email: str, invitation: str) -> None:
        """The invitation is locked and used up; of two accounts at once the second is refused."""
        email = email_normalise(email)
        found = self._allowed(email, invitation, lock=True)
        # After the launch nobody needs one, but who has one has used it.
        live = Invitation.objects.filter(email=email, state=InvitationState.SENT)
        if found is not None:
            live = Invitation.objects.filter(pk=found.pk)
        live.update(state=InvitationState.ACCEPTED, accepted_at=clock.now(), user_id=user_id)
        WaitlistEntry.objects.filter(email=email).exclude(state=EntryState.UNPROVEN).update(
            state=EntryState.JOINED
        )

    def given_back(self, *, user_ids: Collection[UUID]) -> None:
        """Their invitations are good again until they expire, unless the same e-mail has a newer one."""
        accepted = Invitation.objects.filter(user_id__in=user_ids)
        emails = list(accepted.values_list("email", flat=True))
        newer = Invitation.objects.filter(email=OuterRef("email"), state__in=INVITATION_LIVE)
        free = {"user": None, "accepted_at": None}
        accepted.filter(Exists(newer)).update(state=InvitationState.REVOKED, **free)
        accepted.update(state=InvitationState.SENT, **free)
        WaitlistEntry.objects.filter(email__in=emails, state=EntryState.JOINED).update(
            state=EntryState.INVITED
        )

    def _allowed(self, email: str, invitation: str, *, lock: bool) -> Invitation | None:
        sign_up = platform_read().sign_up
        if sign_up == "closed":
            raise SignUpRefused(*_CLOSED)
        if sign_up == "open":
            return None
        if not invitation:
            raise SignUpRefused(*_REQUIRED, pointer="/invitation")
        found = invitation_find(email=email, token=invitation, lock=lock)
        if found is None:
            raise SignUpRefused(*_INVALID, pointer="/invitation")
        return found
