"""What is told beside the event log when something about a session is odd: in the same transaction, once."""

from apps.accounts.audit import audit_record
from apps.accounts.tokens.caller import Caller
from apps.accounts.tokens.domain import device_label, device_name
from apps.accounts.tokens.models import EndReason, Session
from apps.core import clock
from apps.mail.services import message_queue


def replay_noticed(session: Session, *, caller: Caller) -> None:
    """A used refresh token came back, from `caller`, and its session was ended: an audit record and a mail."""
    device = device_name(caller.user_agent)
    audit_record(
        actor=None,
        action="session.revoked",
        target_type="session",
        target_id=session.pk,
        before={"device": session.device, "address": session.address, "last_used_at": session.last_used_at},
        after={"device": device, "address": caller.address, "reason": EndReason.REFRESH_REUSE},
    )
    _mail("refresh_reuse", session, device=device, address=caller.address)


def new_device_noticed(session: Session) -> None:
    """The person, who has signed in before, never did so from such a device: a mail."""
    _mail("new_device", session, device=session.device, address=session.address)


def _mail(template: str, session: Session, *, device: str, address: str | None) -> None:
    message_queue(
        to=session.user.email,
        template=template,
        context={
            "device": device_label(device),
            "address": address or "-",
            "at": f"{clock.now():%-d %B %Y, %H:%M} UTC",
        },
        key=f"{session.pk}:{session.user_id}:{template}",
        essential=True,
    )
